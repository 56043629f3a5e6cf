// SPDX-License-Identifier: MIT
// The messages in state/: the verify history and the damage list.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeDamageList, encodeDamageList } from '#vmar/formats/vmar/damage-list.js';
import { encodeEnvelope } from '#vmar/formats/vmar/envelope.js';
import { NO_FEATURES } from '#vmar/formats/vmar/features.js';
import { vmar } from '#vmar/formats/vmar/generated/vmar.js';
import { decodeRuns, encodeRuns, placesOf, runsOf } from '#vmar/formats/vmar/runs.js';
import { decodeVerifyHistory, encodeVerifyHistory } from '#vmar/formats/vmar/verify-history.js';
import { DamageError, FailedError, UsageError } from '#vmar/src/base/errors.js';
import { expectEveryDamageFound, refusalBy } from './damage.js';
import { golden } from './golden.js';
import { counting, damageSample, HASHES, historySample } from './samples.js';

/** Bytes as hex, so that views of other classes compare. */
function plain(value: unknown): unknown {
  if (ArrayBuffer.isView(value)) return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex');
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, plain(each)]));
}

describe('a verify history', () => {
  it.each(HASHES)('%s: is as in the golden file, and every damage to it is found', (hash) => {
    const bytes = golden(`verify-history-${hash}`, encodeVerifyHistory(historySample(), hash));
    expect(plain(decodeVerifyHistory(bytes, 'h'))).toEqual(plain(historySample()));
    expectEveryDamageFound(bytes, (damaged) => decodeVerifyHistory(damaged, 'h'));
  });

  const backup = { backup: 'vm/1/2026-11-21T02:00:00Z', manifestDigest: counting(0, 32) };
  const pack = { packId: counting(0, 16) };
  it.each<[string, vmar.v1.VerifyHistory.$Properties]>([
    ['a short digest', { backups: [{ ...backup, manifestDigest: counting(0, 31) }] }],
    ['a backup twice', { backups: [backup, backup] }],
    ['a short pack id', { packs: [{ packId: counting(0, 15) }] }],
    ['a pack twice', { packs: [pack, pack] }],
    ['a run past the end', { backups: [backup], packs: [{ ...pack, neededBy: encodeRuns([{ first: 1, count: 1 }]) }] }],
    ['half a run', { backups: [backup], packs: [{ ...pack, neededBy: counting(0, 4) }] }],
    ['a time past 2^53', { packs: [{ ...pack, readMillis: 2 ** 60 }] }],
  ])('with %s is damage, whatever its digest says', (_, wrong) => {
    const payload = vmar.v1.VerifyHistory.encode(wrong).finish();
    const error = refusalBy(() =>
      decodeVerifyHistory(encodeEnvelope('VMARVERI', 'blake3', NO_FEATURES, payload, 'seal'), 'h'),
    );
    expect(error).toBeInstanceOf(DamageError);
    expect(error.code).toBe('verify-history-damaged');
  });

  it('of a newer writer is refused by its feature, and nothing is written that no reader takes', () => {
    const newer = encodeVerifyHistory(historySample(), 'blake3', { ...NO_FEATURES, incompatible: 1n });
    expect(refusalBy(() => decodeVerifyHistory(newer, 'h'))).toBeInstanceOf(FailedError);
    const { packs } = historySample();
    expect(() => encodeVerifyHistory({ backups: [], packs: [...packs].reverse() }, 'blake3')).toThrow(UsageError);
  });
});

describe('a damage list', () => {
  it.each(HASHES)('%s: is as in the golden file, and every damage to it is found', (hash) => {
    const bytes = golden(`damage-list-${hash}`, encodeDamageList(damageSample(), hash));
    expect(plain(decodeDamageList(bytes, 'd'))).toEqual(plain(damageSample()));
    expectEveryDamageFound(bytes, (damaged) => decodeDamageList(damaged, 'd'));
  });

  const pack = { packId: counting(0, 16) };
  it.each<[string, vmar.v1.DamageList.$Properties]>([
    ['names that are not sorted', { touched: ['b', 'a'] }],
    ['a name that is empty', { touched: [''] }],
    ['a short pack id', { packs: [{ packId: counting(0, 15) }] }],
    ['packs that are not sorted', { packs: [{ packId: counting(1, 16) }, pack] }],
    ['frames that do not ascend', { packs: [{ ...pack, frames: new Uint8Array(8) }] }],
    ['half an id', { packs: [{ ...pack, chunks: counting(0, 16) }] }],
    ['an id twice', { packs: [{ ...pack, chunks: new Uint8Array(64) }] }],
    ['a touched place past the end', { packs: [{ ...pack, touches: encodeRuns([{ first: 0, count: 1 }]) }] }],
  ])('with %s is damage, whatever its digest says', (_, wrong) => {
    const payload = vmar.v1.DamageList.encode(wrong).finish();
    const error = refusalBy(() =>
      decodeDamageList(encodeEnvelope('VMARDAMG', 'blake3', NO_FEATURES, payload, 'seal'), 'd'),
    );
    expect(error).toBeInstanceOf(DamageError);
    expect(error.code).toBe('damage-list-damaged');
  });
});

describe('runs', () => {
  it('stand for any set of places', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(300)), (some) => {
        const places = some.toSorted((a, b) => a - b);
        const runs = decodeRuns(encodeRuns(runsOf(places)), 301);
        expect(runs && placesOf(runs)).toEqual(places);
      }),
    );
  });

  it('that touch or overlap are refused', () => {
    const touching = [
      { first: 0, count: 2 },
      { first: 2, count: 1 },
    ];
    expect(decodeRuns(encodeRuns(touching), 10)).toBeUndefined();
    expect(decodeRuns(encodeRuns([{ first: 3, count: 0 }]), 10)).toBeUndefined();
  });
});
