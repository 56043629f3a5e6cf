// SPDX-License-Identifier: MIT

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeEnvelope } from '#vmar/formats/vmar/envelope.js';
import { NO_FEATURES } from '#vmar/formats/vmar/features.js';
import { vmar } from '#vmar/formats/vmar/generated/vmar.js';
import { decodeSuperblock, encodeSuperblock, type SuperblockFields } from '#vmar/formats/vmar/superblock.js';
import { DamageError, UsageError } from '#vmar/src/base/errors.js';
import { expectEveryDamageFound, refusalBy } from './damage.js';
import { golden } from './golden.js';
import { counting, HASHES, superblockSample, TIME_SECONDS } from './samples.js';

const MESSAGE: vmar.v1.Superblock.$Properties = {
  storeUuid: counting(0x20, 16),
  clusterSize: 65536,
  hash: 1,
  mapFanout: 128,
  createdSeconds: TIME_SECONDS,
};

/** A whole superblock around a message that our encoder may not write. */
function superblockOf(message: vmar.v1.Superblock.$Properties): Uint8Array {
  return encodeEnvelope('VMARSTOR', 'blake3', NO_FEATURES, vmar.v1.Superblock.encode(message).finish(), 'seal');
}

describe('the superblock', () => {
  it.each(HASHES)('%s: is as in the golden file, and every damage to it is found', (hash) => {
    const bytes = golden(`superblock-${hash}`, encodeSuperblock(superblockSample(hash)));
    const superblock = decodeSuperblock(bytes, '/store/datastore.pb');
    expect({ ...superblock, storeUuid: Uint8Array.from(superblock.storeUuid) }).toEqual({
      ...superblockSample(hash),
      features: NO_FEATURES,
    });
    expectEveryDamageFound(bytes, (damaged) => decodeSuperblock(damaged, '/store/datastore.pb'));
  });

  it('comes back, whatever it says, with its features', () => {
    const bits = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
    const superblocks = fc.record({
      storeUuid: fc.uint8Array({ minLength: 16, maxLength: 16 }),
      clusterSizeBytes: fc.integer({ min: 16, max: 22 }).map((power) => 2 ** power),
      hash: fc.constantFrom(...HASHES),
      mapFanout: fc.integer({ min: 4, max: 12 }).map((power) => 2 ** power),
      createdSeconds: fc.maxSafeNat(),
      createdBy: fc.string({ unit: 'grapheme' }),
      features: fc.record({ incompatible: fc.constant(0n), readOnlyCompatible: bits, compatible: bits }),
    });
    fc.assert(
      fc.property(superblocks, (superblock) => {
        const decoded = decodeSuperblock(encodeSuperblock(superblock), 'x');
        expect({ ...decoded, storeUuid: Uint8Array.from(decoded.storeUuid) }).toEqual(superblock);
      }),
    );
  });

  it('may have fields of a later version', () => {
    const payload = Buffer.concat([
      vmar.v1.Superblock.encode(MESSAGE).finish(),
      Buffer.from('9a060568656c6c6f', 'hex'),
    ]);
    const bytes = encodeEnvelope('VMARSTOR', 'blake3', NO_FEATURES, payload, 'seal');
    expect(decodeSuperblock(bytes, 'x').mapFanout).toBe(128);
  });

  it.each<[string, vmar.v1.Superblock.$Properties]>([
    ['no UUID', { storeUuid: new Uint8Array(0) }],
    ['a long UUID', { storeUuid: counting(0, 17) }],
    ['no cluster size', { clusterSize: 0 }],
    ['clusters of 32 KiB', { clusterSize: 32768 }],
    ['clusters of 8 MiB', { clusterSize: 8 << 20 }],
    ['no hash', { hash: 0 }],
    ['another hash than the envelope', { hash: 2 }],
    ['an unknown hash', { hash: Number(3) }],
    ['no fan-out', { mapFanout: 0 }],
    ['fan-out 129', { mapFanout: 129 }],
    ['fan-out 8192', { mapFanout: 8192 }],
    ['a time past 2^53', { createdSeconds: 2 ** 53 }],
    ['a time of 2^64 − 2048', { createdSeconds: 2 ** 64 - 2048 }],
  ])('with %s is damage, whatever its digest says', (_, wrong) => {
    const error = refusalBy(() => decodeSuperblock(superblockOf({ ...MESSAGE, ...wrong }), 'x'));
    expect(error).toBeInstanceOf(DamageError);
    expect(error.code).toBe('superblock-damaged');
  });

  it('around random bytes is damage', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (payload) => {
        const bytes = encodeEnvelope('VMARSTOR', 'blake3', NO_FEATURES, payload, 'seal');
        expect(refusalBy(() => decodeSuperblock(bytes, 'x'))).toBeInstanceOf(DamageError);
      }),
      { numRuns: 500 },
    );
  });

  it.each<[string, Partial<SuperblockFields>]>([
    ['a short UUID', { storeUuid: counting(0, 15) }],
    ['a cluster size between powers of two', { clusterSizeBytes: 100_000 }],
    ['a fan-out of 8', { mapFanout: 8 }],
    ['half a second', { createdSeconds: 0.5 }],
  ])('is not made with %s', (_, wrong) => {
    expect(() => encodeSuperblock({ ...superblockSample('blake3'), ...wrong })).toThrow(UsageError);
  });
});
