// SPDX-License-Identifier: MIT
// The files in state/ that no backup needs: gc's record, the verify history, the damage list with its copy, job reports.

import { decodeDamageList } from '../../../formats/vmar/damage-list.js';
import { decodeVerifyHistory } from '../../../formats/vmar/verify-history.js';
import { FailedError, VmarError } from '../../base/errors.js';
import { damageListPaths } from '../../store/damage-list.js';
import { EMPTY_RECORD, type FossilRecord } from '../../store/gc/fossil-record.js';
import { readRecord, recordPath } from '../../store/gc/pack-state.js';
import type { LostPlace } from '../../store/manifest-tree.js';
import { readStateFile } from '../../store/state-file.js';
import { historyPath } from '../../store/verify-history.js';
import type { DamageKind, DamageList } from './damage.js';
import { wholeFile } from './damaged-range.js';
import { verifyReports } from './verify-reports.js';

export interface StateChecks {
  readonly root: string;
  readonly damage: DamageList;
  /** Gets records of what is not damaged, but of a newer version, or not for us to read. */
  readonly refused: Map<number, FailedError>;
}

/** Records what is damaged. Gives gc's record, as far as it can be read. */
export async function checkState(checks: StateChecks): Promise<FossilRecord> {
  const { root } = checks;
  const fossils = await check(checks, 'fossils', recordPath(root), () => readRecord(root));
  await check(checks, 'verify-history', historyPath(root), () => readStateFile(historyPath(root), decodeVerifyHistory));
  for (const path of damageListPaths(root)) {
    await check(checks, 'damage-list', path, () => readStateFile(path, decodeDamageList));
  }
  for (const [record, error] of await verifyReports(root, checks.damage)) {
    if (error instanceof FailedError) checks.refused.set(record, error);
  }
  return fossils ?? EMPTY_RECORD;
}

async function check<Content>(
  { damage, refused }: StateChecks,
  kind: DamageKind,
  file: string,
  read: () => Promise<Content>,
): Promise<Content | undefined> {
  try {
    return await read();
  } catch (error) {
    if (!(error instanceof VmarError)) throw error;
    const record = damage.add({ file, ...wholeFile(file), kind, problem: error.message });
    if (error instanceof FailedError) refused.set(record, error);
    return undefined;
  }
}

/** Records what cannot be looked into in manifests/. */
export function recordLost({ damage, refused }: Omit<StateChecks, 'root'>, lost: readonly LostPlace[]): void {
  for (const { path, error } of lost) {
    const problem = `${error.message}; backups may be missing`;
    const record = damage.add({ file: path, offsetBytes: 0, lengthBytes: 0, kind: 'manifest', problem });
    if (error instanceof FailedError) refused.set(record, error);
  }
}

/** Records directories of packs that cannot be read. @throws FailedError of one that is only not for us to read */
export function recordShut(damage: DamageList, errors: Iterable<VmarError>): void {
  for (const error of errors) {
    if (error instanceof FailedError) throw error;
    const place = { file: error.object ?? '', offsetBytes: 0, lengthBytes: 0 };
    damage.add({ ...place, kind: 'read-error', problem: error.message });
  }
}
