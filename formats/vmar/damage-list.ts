// SPDX-License-Identifier: MIT
// What is known to be damaged, `state/damage-list`: a message in an envelope.

import { compareBytes } from '../../src/base/bytes.js';
import { isSize } from '../../src/base/checked.js';
import { UsageError } from '../../src/base/errors.js';
import { decodeEnvelope, encodeEnvelope } from './envelope.js';
import { type FeatureSet, NO_FEATURES } from './features.js';
import { type Refusal, refusalOf } from './fields.js';
import { vmar } from './generated/vmar.js';
import { type HashName, ID_BYTES } from './hash.js';
import { MAX_STATE_ENTRIES } from './limits.js';
import { decodeMessage, uint64 } from './protobuf.js';
import { decodeNumbers, decodeRuns, encodeNumbers, encodeRuns, type Run } from './runs.js';

const PACK_ID_BYTES = 16;
const LIMITS = { 1: MAX_STATE_ENTRIES, 2: MAX_STATE_ENTRIES } as const;
const NOTHING = new Uint8Array(0);

export interface DamagedPackFields {
  /** 16 bytes; all zero stands for chunks that are in no pack. */
  readonly packId: Uint8Array;
  readonly sinceMillis: number;
  readonly seenMillis: number;
  /** Nothing of it can be counted on. */
  readonly isWhole: boolean;
  /** It is not there, and chunks that backups need are nowhere else. */
  readonly isGone: boolean;
  /** Ascending. */
  readonly frames: readonly number[];
  /** Ids of single chunks, 32 bytes each, end to end, ascending. */
  readonly chunks: Uint8Array;
  readonly problem: string;
  readonly places: number;
  /** By their places in `touched`. */
  readonly touches: readonly Run[];
  /** Found by a reader, who looked no further. */
  readonly isMet: boolean;
}

export interface DamageListFields {
  /** `BACKUP` or `BACKUP:DISK`, in the order of their bytes. */
  readonly touched: readonly string[];
  /** In the order of their ids. */
  readonly packs: readonly DamagedPackFields[];
}

/**
 * The whole file.
 * @throws UsageError for values that no list may have
 */
export function encodeDamageList(
  list: DamageListFields,
  hash: HashName,
  features: FeatureSet = NO_FEATURES,
): Uint8Array {
  const problem = listProblem(list);
  if (problem !== undefined) throw new UsageError('bad-damage-list', `a damage list cannot be so: ${problem}`);
  const packs = list.packs.map((pack) => ({
    ...pack,
    frames: encodeNumbers(pack.frames),
    touches: encodeRuns(pack.touches),
  }));
  const payload = vmar.v1.DamageList.encode({ touched: [...list.touched], packs }).finish();
  return encodeEnvelope('VMARDAMG', hash, features, payload, 'seal');
}

/**
 * Checks and reads the whole file.
 * @throws DamageError, or FailedError if it is of a newer version or has an unknown incompatible feature
 */
export function decodeDamageList(bytes: Uint8Array, object: string): DamageListFields {
  const { payload } = decodeEnvelope(bytes, 'VMARDAMG', 'seal', object);
  const refuse = refusalOf('damage-list-damaged', { object, offsetBytes: 0 });
  const message = decodeMessage((reader) => vmar.v1.DamageList.decode(reader), payload, LIMITS, refuse);
  const { touched } = message;
  const packs = message.packs.map((pack) => packOf(pack, touched.length, refuse));
  const problem = listProblem({ touched, packs });
  if (problem !== undefined) throw refuse(`the damage list is wrong: ${problem}`);
  return { touched, packs };
}

function packOf(pack: vmar.v1.DamagedPack.$Properties, touched: number, refuse: Refusal): DamagedPackFields {
  const frames = decodeNumbers(pack.frames ?? NOTHING);
  const touches = decodeRuns(pack.touches ?? NOTHING, touched);
  if (frames === undefined || touches === undefined) throw refuse('the damage list is wrong: a list is not ascending');
  return {
    ...{ packId: pack.packId ?? NOTHING, problem: pack.problem ?? '', places: pack.places ?? 0, frames, touches },
    ...{ sinceMillis: uint64(pack.sinceMillis ?? 0), seenMillis: uint64(pack.seenMillis ?? 0) },
    ...{ isWhole: pack.isWhole ?? false, isGone: pack.isGone ?? false, isMet: pack.isMet ?? false },
    chunks: pack.chunks ?? NOTHING,
  };
}

function listProblem({ touched, packs }: DamageListFields): string | undefined {
  if (touched.length > MAX_STATE_ENTRIES || packs.length > MAX_STATE_ENTRIES) return 'too many entries';
  let last = Buffer.alloc(0);
  for (const name of touched) {
    const bytes = Buffer.from(name);
    if (compareBytes(last, bytes) >= 0) return 'what it touches is not sorted';
    last = bytes;
  }
  let lastId: Uint8Array | undefined;
  for (const { packId, sinceMillis, seenMillis, chunks } of packs) {
    if (packId.byteLength !== PACK_ID_BYTES) return 'the id of a pack is not 16 bytes';
    if (lastId !== undefined && compareBytes(lastId, packId) >= 0) return 'its packs are not sorted';
    if (!isSize(sinceMillis) || !isSize(seenMillis)) return 'a time past 2^53';
    if (!areIds(chunks)) return 'the chunks of a pack are not sorted ids';
    lastId = packId;
  }
  return undefined;
}

function areIds(chunks: Uint8Array): boolean {
  if (chunks.byteLength % ID_BYTES !== 0) return false;
  for (let at = ID_BYTES; at < chunks.byteLength; at += ID_BYTES) {
    const before = chunks.subarray(at - ID_BYTES, at);
    if (compareBytes(before, chunks.subarray(at, at + ID_BYTES)) >= 0) return false;
  }
  return true;
}
