// SPDX-License-Identifier: MIT
// When packs and backups were last verified, `state/verify-history`: a message in an envelope.

import { compareBytes } from '../../src/base/bytes.js';
import { isSize } from '../../src/base/checked.js';
import { UsageError } from '../../src/base/errors.js';
import { decodeEnvelope, encodeEnvelope } from './envelope.js';
import { type FeatureSet, NO_FEATURES } from './features.js';
import { refusalOf } from './fields.js';
import { vmar } from './generated/vmar.js';
import { DIGEST_BYTES, type HashName } from './hash.js';
import { MAX_STATE_ENTRIES } from './limits.js';
import { decodeMessage, uint64 } from './protobuf.js';
import { decodeRuns, encodeRuns, type Run } from './runs.js';

const PACK_ID_BYTES = 16;
const LIMITS = { 1: MAX_STATE_ENTRIES, 2: MAX_STATE_ENTRIES } as const;

export interface VerifiedBackup {
  /** Its full id. */
  readonly backup: string;
  /** 32 bytes. */
  readonly manifestDigest: Uint8Array;
  /** When its maps were last followed to every chunk; 0 for never. */
  readonly followedMillis: number;
}

export interface VerifiedPack {
  /** 16 bytes. */
  readonly packId: Uint8Array;
  /** When every byte of it was last read, whatever came of it; 0 for never. */
  readonly readMillis: number;
  /** The backups that rest on it, by their places in the list. */
  readonly neededBy: readonly Run[];
}

export interface VerifyHistoryFields {
  /** In the order of their ids' bytes. */
  readonly backups: readonly VerifiedBackup[];
  /** In the order of their ids. */
  readonly packs: readonly VerifiedPack[];
}

/**
 * The whole file.
 * @throws UsageError for values that no history may have
 */
export function encodeVerifyHistory(
  history: VerifyHistoryFields,
  hash: HashName,
  features: FeatureSet = NO_FEATURES,
): Uint8Array {
  const problem = historyProblem(history);
  if (problem !== undefined) throw new UsageError('bad-history', `a verify history cannot be so: ${problem}`);
  const { backups } = history;
  const packs = history.packs.map(({ packId, readMillis, neededBy }) => ({
    ...{ packId, readMillis, neededBy: encodeRuns(neededBy) },
  }));
  const payload = vmar.v1.VerifyHistory.encode({ backups: [...backups], packs }).finish();
  return encodeEnvelope('VMARVERI', hash, features, payload, 'seal');
}

/**
 * Checks and reads the whole file.
 * @throws DamageError, or FailedError if it is of a newer version or has an unknown incompatible feature
 */
export function decodeVerifyHistory(bytes: Uint8Array, object: string): VerifyHistoryFields {
  const { payload } = decodeEnvelope(bytes, 'VMARVERI', 'seal', object);
  const refuse = refusalOf('verify-history-damaged', { object, offsetBytes: 0 });
  const message = decodeMessage((reader) => vmar.v1.VerifyHistory.decode(reader), payload, LIMITS, refuse);
  const backups = message.backups.map(({ backup, manifestDigest, followedMillis }) => ({
    backup: backup ?? '',
    manifestDigest: manifestDigest ?? new Uint8Array(0),
    followedMillis: uint64(followedMillis ?? 0),
  }));
  const packs = message.packs.map(({ packId, readMillis, neededBy }) => {
    const runs = decodeRuns(neededBy ?? new Uint8Array(0), backups.length);
    if (runs === undefined) throw refuse('the verify history is wrong: a pack is needed by no list of backups');
    return { packId: packId ?? new Uint8Array(0), readMillis: uint64(readMillis ?? 0), neededBy: runs };
  });
  const problem = historyProblem({ backups, packs });
  if (problem !== undefined) throw refuse(`the verify history is wrong: ${problem}`);
  return { backups, packs };
}

function historyProblem({ backups, packs }: VerifyHistoryFields): string | undefined {
  if (backups.length > MAX_STATE_ENTRIES || packs.length > MAX_STATE_ENTRIES) return 'too many entries';
  let last: Uint8Array = Buffer.alloc(0);
  for (const { backup, manifestDigest, followedMillis } of backups) {
    const name = Buffer.from(backup);
    if (compareBytes(last, name) >= 0) return 'its backups are not sorted';
    if (manifestDigest.byteLength !== DIGEST_BYTES) return 'the digest of a manifest is not 32 bytes';
    if (!isSize(followedMillis)) return 'a time past 2^53';
    last = name;
  }
  let lastId: Uint8Array | undefined;
  for (const { packId, readMillis } of packs) {
    if (packId.byteLength !== PACK_ID_BYTES) return 'the id of a pack is not 16 bytes';
    if (lastId !== undefined && compareBytes(lastId, packId) >= 0) {
      return 'its packs are not sorted';
    }
    if (!isSize(readMillis)) return 'a time past 2^53';
    lastId = packId;
  }
  return undefined;
}
