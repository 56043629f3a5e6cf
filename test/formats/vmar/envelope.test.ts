// SPDX-License-Identifier: MIT

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeEnvelope, type EnvelopeMagic, encodeEnvelope, envelopeDigest } from '#vmar/formats/vmar/envelope.js';
import { NO_FEATURES } from '#vmar/formats/vmar/features.js';
import { createHasher } from '#vmar/formats/vmar/hash.js';
import { MAX_PAYLOAD_BYTES } from '#vmar/formats/vmar/limits.js';
import { BugError, DamageError, FailedError } from '#vmar/src/base/errors.js';
import { expectEveryDamageFound, refusalBy } from './damage.js';
import { golden } from './golden.js';
import { counting, HASHES } from './samples.js';

const FEATURES = { incompatible: 0n, readOnlyCompatible: 0x0201n, compatible: 2n ** 63n };

/** An envelope with bytes changed and its digest taken anew. */
function redigested(change: (bytes: Buffer) => void): Uint8Array {
  const bytes = Buffer.from(encodeEnvelope('VMARMANI', 'blake3', NO_FEATURES, counting(0, 10), 'manifest'));
  change(bytes);
  bytes.set(createHasher('blake3', 'manifest').digest(bytes.subarray(0, -32)), bytes.length - 32);
  return bytes;
}

const decodeManifestEnvelope = (bytes: Uint8Array) => decodeEnvelope(bytes, 'VMARMANI', 'manifest', '/m');

describe('an envelope', () => {
  it.each(HASHES)('%s: is as in the golden file, and every damage to it is found', (hash) => {
    const payload = counting(1, 50);
    const bytes = golden(`envelope-${hash}`, encodeEnvelope('VMARMANI', hash, FEATURES, payload, 'manifest'));
    const envelope = decodeManifestEnvelope(bytes);
    expect(Uint8Array.from(envelope.payload)).toEqual(payload);
    expect(envelope).toMatchObject({ hash, features: FEATURES });
    expect(Uint8Array.from(envelope.digest)).toEqual(envelopeDigest(bytes));
    expect(envelope.digest).toEqual(createHasher(hash, 'manifest').digest(bytes.subarray(0, -32)));
    expectEveryDamageFound(bytes, decodeManifestEnvelope);
  });

  it('comes back, whatever it holds', () => {
    const bits = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
    const features = fc.record({ incompatible: fc.constant(0n), readOnlyCompatible: bits, compatible: bits });
    const magics = fc.constantFrom<EnvelopeMagic>('VMARSTOR', 'VMARMANI', 'VMARSIDE');
    const contexts = fc.constantFrom('seal' as const, 'manifest' as const);
    fc.assert(
      fc.property(
        magics,
        contexts,
        fc.constantFrom(...HASHES),
        features,
        fc.uint8Array(),
        (magic, context, hash, f, p) => {
          const bytes = encodeEnvelope(magic, hash, f, p, context);
          expect(bytes.byteLength).toBe(p.byteLength + 72);
          const { payload, ...rest } = decodeEnvelope(bytes, magic, context, 'x');
          expect(Uint8Array.from(payload)).toEqual(p);
          expect(rest).toMatchObject({ hash, features: f });
        },
      ),
    );
  });

  it('never passes for one of another kind or context', () => {
    const bytes = encodeEnvelope('VMARMANI', 'blake3', NO_FEATURES, counting(0, 10), 'manifest');
    const asSidecar = refusalBy(() => decodeEnvelope(bytes, 'VMARSIDE', 'manifest', '/m'));
    expect(asSidecar).toMatchObject({ code: 'sidecar-damaged', object: '/m', offsetBytes: 0 });
    expect(refusalBy(() => decodeEnvelope(bytes, 'VMARMANI', 'seal', '/m'))).toBeInstanceOf(DamageError);
    const other = Buffer.from(bytes);
    other.write('VMARSIDE', 'latin1');
    expect(refusalBy(() => decodeEnvelope(other, 'VMARSIDE', 'manifest', '/m'))).toBeInstanceOf(DamageError);
  });

  it('with anything behind it is damage', () => {
    const bytes = encodeEnvelope('VMARMANI', 'blake3', NO_FEATURES, counting(0, 10), 'manifest');
    for (const more of [1, 32, 1000]) {
      const longer = Buffer.concat([bytes, new Uint8Array(more)]);
      expect(refusalBy(() => decodeManifestEnvelope(longer))).toBeInstanceOf(DamageError);
    }
  });

  it('of a newer version is told from a damaged one', () => {
    const error = refusalBy(() => decodeManifestEnvelope(redigested((bytes) => bytes.writeUInt16LE(2, 8))));
    expect(error).toBeInstanceOf(FailedError);
    expect(error).toMatchObject({ code: 'newer-version', object: '/m' });
    expect(error.message).toContain('manifest');
  });

  it('with an unknown incompatible feature is refused by name', () => {
    const error = refusalBy(() => decodeManifestEnvelope(redigested((bytes) => bytes.writeBigUInt64LE(2n, 16))));
    expect(error).toBeInstanceOf(FailedError);
    expect(error).toMatchObject({ code: 'unknown-feature', found: 'compression-other' });
  });

  it.each<[string, (bytes: Buffer) => void]>([
    ['version 0', (bytes) => bytes.writeUInt16LE(0, 8)],
    ['a zero byte that is none', (bytes) => bytes.writeUInt8(1, 11)],
    ['a longer payload than there is', (bytes) => bytes.writeUInt32LE(11, 12)],
    ['a payload of 4 GiB', (bytes) => bytes.writeUInt32LE(0xffffffff, 12)],
    ['an unknown algorithm', (bytes) => bytes.writeUInt8(3, 10)],
    ['no algorithm', (bytes) => bytes.writeUInt8(0, 10)],
    ['another algorithm than it was digested with', (bytes) => bytes.writeUInt8(2, 10)],
  ])('with %s is damage, whatever its digest says', (_, change) => {
    expect(refusalBy(() => decodeManifestEnvelope(redigested(change)))).toBeInstanceOf(DamageError);
  });

  it('holds at most 16 MiB', () => {
    const full = encodeEnvelope('VMARMANI', 'blake3', NO_FEATURES, new Uint8Array(MAX_PAYLOAD_BYTES), 'manifest');
    expect(decodeManifestEnvelope(full).payload.byteLength).toBe(MAX_PAYLOAD_BYTES);
    const longer = Buffer.concat([full, new Uint8Array(1)]);
    longer.writeUInt32LE(MAX_PAYLOAD_BYTES + 1, 12);
    expect(refusalBy(() => decodeManifestEnvelope(longer))).toBeInstanceOf(DamageError);
    const payload = new Uint8Array(MAX_PAYLOAD_BYTES + 1);
    expect(() => encodeEnvelope('VMARMANI', 'blake3', NO_FEATURES, payload, 'manifest')).toThrow(BugError);
  });
});
