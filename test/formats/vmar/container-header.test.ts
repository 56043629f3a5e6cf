// SPDX-License-Identifier: MIT

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type ContainerHeader,
  decodeContainerHeader,
  encodeContainerHeader,
} from '#vmar/formats/vmar/container-header.js';
import { sealer } from '#vmar/formats/vmar/hash.js';
import { BugError, DamageError, FailedError } from '#vmar/src/base/errors.js';
import { expectEveryDamageFound, refusalBy } from './damage.js';
import { golden } from './golden.js';
import { counting, HASHES, headerSample } from './samples.js';

function archiveSample(): ContainerHeader {
  return { ...headerSample('blake3'), use: 'archive', storeUuid: new Uint8Array(16), content: 'both' };
}

/** The sample with bytes changed and sealed anew, as only a newer or a wrong writer would. */
function resealed(change: (bytes: Buffer) => void): Uint8Array {
  const bytes = Buffer.from(encodeContainerHeader(headerSample('blake3')));
  change(bytes);
  bytes.set(sealer('blake3')(bytes.subarray(0, 240)), 240);
  return bytes;
}

describe('the header of a container', () => {
  it.each(HASHES)('%s: is as in the golden file, and every damage to it is found', (hash) => {
    const bytes = golden(`container-header-${hash}`, encodeContainerHeader(headerSample(hash)));
    expect(bytes.byteLength).toBe(256);
    expect(decodeContainerHeader(bytes, 'x')).toEqual(asDecoded(headerSample(hash)));
    expectEveryDamageFound(bytes, (damaged) => decodeContainerHeader(damaged, 'x'));
  });

  it('of an archive is as in the golden file', () => {
    const bytes = golden('container-header-archive', encodeContainerHeader(archiveSample()));
    expect(decodeContainerHeader(bytes, 'x')).toEqual(asDecoded(archiveSample()));
    expectEveryDamageFound(bytes, (damaged) => decodeContainerHeader(damaged, 'x'));
  });

  it('comes back, whatever it says', () => {
    fc.assert(
      fc.property(headers(), (header) => {
        expect(decodeContainerHeader(encodeContainerHeader(header), 'x')).toEqual(asDecoded(header));
      }),
    );
  });

  it('is read from the front of more bytes', () => {
    const bytes = Buffer.concat([encodeContainerHeader(headerSample('sha256')), counting(0, 100)]);
    expect(decodeContainerHeader(bytes, 'x').hash).toBe('sha256');
  });

  it('of a newer version is told from a damaged one', () => {
    const error = refusalBy(() =>
      decodeContainerHeader(
        resealed((bytes) => bytes.writeUInt16LE(2, 8)),
        '/p/x.vmar',
      ),
    );
    expect(error).toBeInstanceOf(FailedError);
    expect(error).toMatchObject({ code: 'newer-version', object: '/p/x.vmar' });
  });

  it('with an unknown incompatible feature is refused by the feature, even where zero bytes are used', () => {
    const bytes = resealed((header) => {
      header.writeBigUInt64LE(1n, 16);
      header[104] = 1;
    });
    expect(refusalBy(() => decodeContainerHeader(bytes, 'x'))).toMatchObject({
      code: 'unknown-feature',
      found: 'encryption',
    });
  });

  it.each<[string, (bytes: Buffer) => void]>([
    ['version 0', (bytes) => bytes.writeUInt16LE(0, 8)],
    ['another header size', (bytes) => bytes.writeUInt16LE(512, 10)],
    ['use 0', (bytes) => bytes.writeUInt32LE(0, 12)],
    ['use 3', (bytes) => bytes.writeUInt32LE(3, 12)],
    ['clusters of 32 KiB', (bytes) => bytes.writeUInt32LE(32768, 88)],
    ['clusters of 8 MiB', (bytes) => bytes.writeUInt32LE(8 << 20, 88)],
    ['clusters of 96 KiB', (bytes) => bytes.writeUInt32LE(98304, 88)],
    ['content 0', (bytes) => bytes.writeUInt8(0, 93)],
    ['content 4', (bytes) => bytes.writeUInt8(4, 93)],
    ['fan-out 8', (bytes) => bytes.writeUInt16LE(8, 94)],
    ['fan-out 8192', (bytes) => bytes.writeUInt16LE(8192, 94)],
    ['fan-out 100', (bytes) => bytes.writeUInt16LE(100, 94)],
    ['a time past 2^53', (bytes) => bytes.writeBigUInt64LE(2n ** 53n, 96)],
    ['a first zero byte that is none', (bytes) => bytes.writeUInt8(1, 104)],
    ['a last zero byte that is none', (bytes) => bytes.writeUInt8(1, 239)],
    ['the UUID of a datastore in an archive', (bytes) => bytes.writeUInt32LE(2, 12)],
  ])('with %s is damage, whatever its seal says', (_, change) => {
    expect(refusalBy(() => decodeContainerHeader(resealed(change), 'x'))).toBeInstanceOf(DamageError);
  });

  it.each<[string, Partial<ContainerHeader>]>([
    ['a cluster size', { clusterSizeBytes: 100_000 }],
    ['a fan-out', { mapFanout: 3 }],
    ['a time', { createdSeconds: -1 }],
    ['an id', { containerId: new Uint8Array(15) }],
    ['a datastore', { use: 'archive' }],
  ])('is not written with %s that no reader takes', (_, wrong) => {
    expect(() => encodeContainerHeader({ ...headerSample('blake3'), ...wrong })).toThrow(BugError);
  });
});

/** Decoded bytes are Buffers. */
function asDecoded(header: ContainerHeader): ContainerHeader {
  const { containerId, storeUuid, writerId } = header;
  const ids = { containerId, storeUuid, writerId };
  return {
    ...header,
    ...Object.fromEntries(Object.entries(ids).map(([name, bytes]) => [name, Buffer.from(bytes)])),
  };
}

function headers(): fc.Arbitrary<ContainerHeader> {
  const bits = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
  const id = fc.uint8Array({ minLength: 16, maxLength: 16 });
  const powerOfTwo = (least: number, most: number) => fc.integer({ min: least, max: most }).map((power) => 2 ** power);
  return fc.record({
    use: fc.constant('pack' as const),
    features: fc.record({ incompatible: fc.constant(0n), readOnlyCompatible: bits, compatible: bits }),
    containerId: id,
    storeUuid: id,
    writerId: id,
    clusterSizeBytes: powerOfTwo(16, 22),
    hash: fc.constantFrom(...HASHES),
    content: fc.constantFrom('data' as const, 'maps' as const, 'both' as const),
    mapFanout: powerOfTwo(4, 12),
    createdSeconds: fc.maxSafeNat(),
  });
}
