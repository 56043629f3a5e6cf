// SPDX-License-Identifier: MIT

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeEnvelope } from '#vmar/formats/vmar/envelope.js';
import { NO_FEATURES } from '#vmar/formats/vmar/features.js';
import { vmar } from '#vmar/formats/vmar/generated/vmar.js';
import { decodeSidecar, encodeSidecar } from '#vmar/formats/vmar/sidecar.js';
import { DamageError, FailedError, UsageError } from '#vmar/src/base/errors.js';
import { expectEveryDamageFound, refusalBy } from './damage.js';
import { golden } from './golden.js';
import { counting, HASHES, sidecarSample } from './samples.js';

function sidecarOf(message: vmar.v1.Sidecar.$Properties, features = NO_FEATURES): Uint8Array {
  return encodeEnvelope('VMARSIDE', 'blake3', features, vmar.v1.Sidecar.encode(message).finish(), 'manifest');
}

describe('a sidecar', () => {
  it.each(HASHES)('%s: is as in the golden file, and every damage to it is found', (hash) => {
    const bytes = golden(`sidecar-${hash}`, encodeSidecar(sidecarSample(), hash));
    const sidecar = decodeSidecar(bytes, '/m/x.sidecar');
    expect({ ...sidecar, manifestDigest: Uint8Array.from(sidecar.manifestDigest) }).toEqual(sidecarSample());
    expectEveryDamageFound(bytes, (damaged) => decodeSidecar(damaged, '/m/x.sidecar'));
  });

  it('comes back, whatever it says, its labels sorted', () => {
    const text = fc.string({ unit: 'grapheme' });
    const labels = fc.uniqueArray(fc.tuple(fc.string({ unit: 'grapheme', minLength: 1 }), text), {
      selector: ([key]) => key,
    });
    const digest = fc.uint8Array({ minLength: 32, maxLength: 32 });
    fc.assert(
      fc.property(
        digest,
        labels,
        text,
        fc.boolean(),
        fc.constantFrom(...HASHES),
        (manifestDigest, list, notes, is, hash) => {
          const written = { manifestDigest, labels: new Map(list), notes, isProtected: is };
          const read = decodeSidecar(encodeSidecar(written, hash), 'x');
          expect({ ...read, manifestDigest: Uint8Array.from(read.manifestDigest) }).toEqual(written);
          const keys = [...read.labels.keys()].map((key) => Buffer.from(key));
          expect(keys).toEqual(keys.toSorted(Buffer.compare));
        },
      ),
    );
  });

  it('of a newer writer is refused by its feature', () => {
    const bytes = sidecarOf({ manifestDigest: counting(0, 32) }, { ...NO_FEATURES, incompatible: 1n });
    expect(refusalBy(() => decodeSidecar(bytes, 'x'))).toBeInstanceOf(FailedError);
  });

  const manifestDigest = counting(0, 32);
  it.each<[string, vmar.v1.Sidecar.$Properties]>([
    ['no digest', {}],
    ['a short digest', { manifestDigest: counting(0, 31) }],
    ['a label without a key', { manifestDigest, labels: [{ value: 'x' }] }],
    ['a label twice', { manifestDigest, labels: [{ key: 'a' }, { key: 'a' }] }],
    ['labels in the wrong order', { manifestDigest, labels: [{ key: 'b' }, { key: 'a' }] }],
    ['1025 labels', { manifestDigest, labels: Array.from({ length: 1025 }, (_, n) => ({ key: `${n + 1000}` })) }],
  ])('with %s is damage, whatever its digest says', (_, wrong) => {
    const error = refusalBy(() => decodeSidecar(sidecarOf(wrong), 'x'));
    expect(error).toBeInstanceOf(DamageError);
    expect(error.code).toBe('sidecar-damaged');
  });

  it('is not written with what no reader takes', () => {
    const sample = sidecarSample();
    const many = new Map(Array.from({ length: 1025 }, (_, n) => [`${n}`, '']));
    for (const wrong of [{ labels: new Map([['', 'x']]) }, { labels: many }, { manifestDigest: counting(0, 16) }]) {
      expect(() => encodeSidecar({ ...sample, ...wrong }, 'blake3')).toThrow(UsageError);
    }
  });
});
