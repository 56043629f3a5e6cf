// SPDX-License-Identifier: MIT

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeEnvelope, envelopeDigest } from '#vmar/formats/vmar/envelope.js';
import { NO_FEATURES } from '#vmar/formats/vmar/features.js';
import { vmar } from '#vmar/formats/vmar/generated/vmar.js';
import { decodeManifest, encodeManifest, type Manifest, type ManifestDisk } from '#vmar/formats/vmar/manifest.js';
import { DamageError, FailedError, UsageError } from '#vmar/src/base/errors.js';
import { expectEveryDamageFound, refusalBy } from './damage.js';
import { golden } from './golden.js';
import { counting, HASHES, manifestSample } from './samples.js';

const { Manifest: Message, Disk: DiskMessage } = vmar.v1;

/** Plain arrays in place of views. */
function plain(manifest: Manifest): Manifest {
  const bytes = (value: unknown): unknown => (value instanceof Uint8Array ? Uint8Array.from(value) : value);
  const each = <T extends object>(value: T) =>
    Object.fromEntries(Object.entries(value).map(([name, field]) => [name, bytes(field)])) as T;
  return { ...each(manifest), disks: manifest.disks.map(each), configs: manifest.configs.map(each) };
}

function manifestOf(payload: Uint8Array): Uint8Array {
  return encodeEnvelope('VMARMANI', 'blake3', NO_FEATURES, payload, 'manifest');
}

/** The sample as a message, to be changed into what our encoder does not write. */
function message(): vmar.v1.Manifest & vmar.v1.Manifest.$Shape {
  return Message.decode(decodedPayload(encodeManifest(manifestSample('blake3'))));
}

function decodedPayload(envelope: Uint8Array): Uint8Array {
  return envelope.subarray(40, -32);
}

function refusalOf(payload: Uint8Array) {
  return refusalBy(() => decodeManifest(manifestOf(payload), '/m/x.manifest'));
}

describe('a manifest', () => {
  it.each(HASHES)('%s: is as in the golden file, and every damage to it is found', (hash) => {
    const bytes = golden(`manifest-${hash}`, encodeManifest(manifestSample(hash)));
    const { manifest, digest, features } = decodeManifest(bytes, '/m/x.manifest');
    expect(plain(manifest)).toEqual(manifestSample(hash));
    expect(Uint8Array.from(digest)).toEqual(envelopeDigest(bytes));
    expect(features).toEqual(NO_FEATURES);
    expectEveryDamageFound(bytes, (damaged) => decodeManifest(damaged, '/m/x.manifest'));
  });

  it('comes back, whatever it says', () => {
    fc.assert(
      fc.property(manifests(), (manifest) => {
        expect(plain(decodeManifest(encodeManifest(manifest), 'x').manifest)).toEqual(manifest);
      }),
    );
  });

  it('of a whole disk of 2^53 − 1 bytes comes back to the byte', () => {
    const sample = manifestSample('blake3');
    const disks = [{ ...sample.disks[0]!, sizeBytes: Number.MAX_SAFE_INTEGER, zeroBytes: Number.MAX_SAFE_INTEGER }];
    const { manifest } = decodeManifest(encodeManifest({ ...sample, disks }), 'x');
    expect(manifest.disks[0]).toMatchObject({ sizeBytes: 2 ** 53 - 1, zeroBytes: 2 ** 53 - 1 });
  });

  it('may have fields of a later version, also in its disks', () => {
    const unknown = Buffer.from('9a060568656c6c6f', 'hex');
    const disk = Buffer.concat([DiskMessage.encode(message().disks[0]!).finish(), unknown]);
    const asField = Buffer.concat([Buffer.from([0x5a, disk.length]), disk]);
    const payload = Buffer.concat([unknown, Message.encode({ ...message(), disks: [] }).finish(), asField]);
    const { manifest } = decodeManifest(manifestOf(payload), 'x');
    expect(manifest.disks.map((one) => one.name)).toEqual(['drive-scsi0']);
  });

  it('needs no more than it must have', () => {
    const sample = manifestSample('sha256');
    const none = new Uint8Array(0);
    const least: Manifest = {
      ...{ ...sample, namespace: '', guestName: '', guestUuid: none, timeSeconds: 0, sequence: 1, source: '' },
      ...{ previousDigest: none, sourceUuid: none, disks: [], configs: [], packs: [], writer: '', storeUuid: none },
      ...{ startedMillis: 0, finishedMillis: 0 },
    };
    expect(plain(decodeManifest(encodeManifest(least), 'x').manifest)).toEqual(least);
  });
});

/** Each is wrong in the same way for an encoder and for a decoder. */
const WRONG: readonly (readonly [string, (manifest: Manifest) => Partial<Manifest>])[] = [
  ['a namespace that leads out', () => ({ namespace: '../x' })],
  ['a namespace "vm"', () => ({ namespace: 'vm' })],
  ['no guest id', () => ({ guestId: '' })],
  ['a guest id that leads out', () => ({ guestId: '..' })],
  ['a guest UUID of 15 bytes', () => ({ guestUuid: counting(0, 15) })],
  ['a time after the year 9999', () => ({ timeSeconds: 253402300800 })],
  ['sequence number 0', () => ({ sequence: 0 })],
  ['a previous digest of 31 bytes', () => ({ previousDigest: counting(0, 31) })],
  ['a source UUID of 17 bytes', () => ({ sourceUuid: counting(0, 17) })],
  ['no writer id', () => ({ writerId: new Uint8Array(0) })],
  ['a datastore UUID of 8 bytes', () => ({ storeUuid: counting(0, 8) })],
  ['fan-out 100', () => ({ mapFanout: 100 })],
  ['packs in the wrong order', ({ packs }) => ({ packs: packs.toReversed() })],
  ['a pack twice', ({ packs }) => ({ packs: [packs[0]!, packs[0]!] })],
  ['a disk twice', ({ disks }) => ({ disks: [disks[0]!, disks[0]!] })],
  ['255 disks', ({ disks }) => ({ disks: Array.from({ length: 255 }, (_, n) => ({ ...disks[0]!, name: `d${n}` })) })],
  ['a configuration file twice', ({ configs }) => ({ configs: [configs[0]!, configs[0]!] })],
  ['a configuration file that leads out', () => ({ configs: [{ name: '../x', content: counting(0, 1) }] })],
  ['a configuration file without a name', () => ({ configs: [{ name: '', content: counting(0, 1) }] })],
  [
    '1025 configuration files',
    () => ({ configs: Array.from({ length: 1025 }, (_, n) => ({ name: `c${n}`, content: counting(0, 1) })) }),
  ],
];

const WRONG_DISKS: readonly (readonly [string, Partial<ManifestDisk>])[] = [
  ['no name', { name: '' }],
  ['a name that leads out', { name: '../x' }],
  ['clusters of 96 KiB', { clusterSizeBytes: 98304 }],
  ['no map root', { mapRoot: new Uint8Array(0) }],
  ['a map root of 33 bytes', { mapRoot: counting(0, 33) }],
  ['no bytes but a map', { sizeBytes: 0 }],
  ['a length past 2^53', { sizeBytes: 2 ** 53 }],
  ['a count past 2^53', { unchangedBytes: 2 ** 60 }],
];

describe('a manifest that is wrong', () => {
  const cases = [
    ...WRONG,
    ...WRONG_DISKS.map(([what, wrong]) => {
      const change = ({ disks }: Manifest): Partial<Manifest> => ({ disks: disks.with(0, { ...disks[0]!, ...wrong }) });
      return [`a disk with ${what}`, change] as const;
    }),
  ];

  it.each(cases)('by %s is not written', (_, change) => {
    const sample = manifestSample('blake3');
    expect(() => encodeManifest({ ...sample, ...change(sample) })).toThrow(UsageError);
  });

  it.each(cases)('by %s is damage, whatever its digest says', (_, change) => {
    const { disks, configs, packs, consistency: _named, hash: _hash, ...same } = change(manifestSample('blake3'));
    const wrong = {
      ...message(),
      ...same,
      ...(disks && { disks: disks.map((disk) => ({ ...disk, kind: 0, clusterSize: disk.clusterSizeBytes })) }),
      ...(configs && { configs: [...configs] }),
      ...(packs && { packs: Buffer.from(packs.join(''), 'hex') }),
    } as vmar.v1.Manifest.$Properties;
    const error = refusalOf(Message.encode(wrong).finish());
    expect(error).toBeInstanceOf(DamageError);
    expect(error).toMatchObject({ code: 'manifest-damaged', object: '/m/x.manifest' });
  });

  it.each<[string, vmar.v1.Manifest.$Properties]>([
    ['another type of guest', { guestType: 'ct' }],
    ['no type of guest', { guestType: '' }],
    ['unknown consistency', { consistency: 0 }],
    ['newer consistency', { consistency: Number(4) }],
    ['another hash than its envelope', { hash: 2 }],
    ['half a pack', { packs: counting(0, 24) }],
    ['an unknown kind of disk', { disks: [{ ...message().disks[0], kind: Number(3) }] }],
    ['an empty disk', { disks: [{}] }],
    ['an empty configuration file', { configs: [{}] }],
  ])('by %s is damage, whatever its digest says', (_, wrong) => {
    expect(refusalOf(Message.encode({ ...message(), ...wrong }).finish())).toBeInstanceOf(DamageError);
  });

  it('by more levels of map than 7 is not written and not read', () => {
    const sample = manifestSample('blake3');
    const large = { ...sample.disks[0]!, sizeBytes: 16 ** 7 * 65536 };
    const deepest = { ...sample, mapFanout: 16, disks: [large] };
    expect(decodeManifest(encodeManifest(deepest), 'x').manifest.mapFanout).toBe(16);
    const deeper = { ...deepest, disks: [{ ...large, sizeBytes: large.sizeBytes + 1 }] };
    expect(() => encodeManifest(deeper)).toThrow(UsageError);
  });

  it('by configuration files that are too long is refused with what to look at', () => {
    const configs = [{ name: 'big', content: new Uint8Array(16 << 20) }];
    const error = refusalBy(() => encodeManifest({ ...manifestSample('blake3'), configs }));
    expect(error).toBeInstanceOf(FailedError);
    expect(error.code).toBe('manifest-too-long');
  });

  it('by random bytes is damage', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (payload) => {
        expect(refusalOf(payload)).toBeInstanceOf(DamageError);
      }),
      { numRuns: 500 },
    );
  });

  it('by a message with any byte changed is damage or another manifest, nothing else', () => {
    const payload = Uint8Array.from(decodedPayload(encodeManifest(manifestSample('blake3'))));
    for (let at = 0; at < payload.length; at++) {
      for (const change of [1, 4, 8, 0x80, 0xff]) {
        const changed = Uint8Array.from(payload);
        changed[at]! ^= change;
        try {
          decodeManifest(manifestOf(changed), 'x');
        } catch (error) {
          expect(error).toBeInstanceOf(DamageError);
        }
      }
    }
  });

  it('by millions of disks, or of unknown fields, makes no object of them', () => {
    const disks = Buffer.alloc(16 << 20, Buffer.from([0x5a, 0x00]));
    const original = DiskMessage.decode;
    let decoded = 0;
    DiskMessage.decode = (...args) => {
      decoded++;
      return original(...args);
    };
    try {
      expect(refusalOf(disks).message).toContain('too long');
      expect(decoded).toBe(0);
    } finally {
      DiskMessage.decode = original;
    }
    const unknown = Buffer.alloc(15_000_000, Buffer.from([0xa0, 0x06, 0x00]));
    expect(refusalOf(unknown)).toBeInstanceOf(DamageError);
  });
});

function manifests(): fc.Arbitrary<Manifest> {
  const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
  const maybe = (length: number) => fc.oneof(bytes(length), fc.constant(new Uint8Array(0)));
  const text = fc.string({ unit: 'grapheme' });
  const name = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/);
  const disk: fc.Arbitrary<ManifestDisk> = fc.record({
    name,
    kind: fc.constantFrom('disk' as const, 'vmstate' as const, 'blob' as const),
    sizeBytes: fc.integer({ min: 1, max: 2 ** 43 }),
    clusterSizeBytes: fc.integer({ min: 16, max: 22 }).map((power) => 2 ** power),
    mapRoot: bytes(32),
    bitmapName: text,
    fullReason: text,
    readBytes: fc.maxSafeNat(),
    zeroBytes: fc.maxSafeNat(),
    unchangedBytes: fc.maxSafeNat(),
    newBytes: fc.maxSafeNat(),
    storedBytes: fc.maxSafeNat(),
    forceShared: fc.boolean(),
  });
  const configName = fc.stringMatching(/^[a-z ø]{1,60}$/);
  return fc.record({
    namespace: fc.constantFrom('', 'a', 'north/rack-2'),
    guestType: fc.constant('vm' as const),
    guestId: name,
    guestName: text,
    guestUuid: maybe(16),
    timeSeconds: fc.integer({ min: 0, max: 253402300799 }),
    sequence: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
    previousDigest: maybe(32),
    source: text,
    sourceUuid: maybe(16),
    disks: fc.uniqueArray(disk, { maxLength: 5, selector: (one) => one.name }),
    configs: fc.uniqueArray(fc.record({ name: configName, content: fc.uint8Array() }), {
      maxLength: 4,
      selector: (one) => one.name,
    }),
    consistency: fc.constantFrom('offline' as const, 'crash' as const, 'agent-frozen' as const),
    packs: fc
      .uniqueArray(
        bytes(16).map((id) => Buffer.from(id).toString('hex')),
        { maxLength: 20 },
      )
      .map((packs) => packs.sort()),
    writerId: bytes(16),
    writer: text,
    storeUuid: maybe(16),
    hash: fc.constantFrom(...HASHES),
    mapFanout: fc.integer({ min: 5, max: 12 }).map((power) => 2 ** power),
    startedMillis: fc.maxSafeNat(),
    finishedMillis: fc.maxSafeNat(),
  });
}
