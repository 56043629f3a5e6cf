// SPDX-License-Identifier: MIT
// An archive of ours becomes a backup of a datastore: the same guest, the same moment, the same bytes.

import { copyBackup, createReader, describeAgain } from '../copy-backup.js';
import type { OpenBackup } from '../open-backup.js';
import type { ImportPlace, ImportResult } from './import-place.js';
import type { ImportWish } from './import-vma.js';

export async function importArchive(backup: OpenBackup, wish: ImportWish, place: ImportPlace): Promise<ImportResult> {
  const { guest, timeSeconds } = wish;
  const description = {
    ...describeAgain(backup.manifest),
    ...(guest === undefined ? {} : { namespace: guest.namespace, guestId: guest.guestId }),
    ...(timeSeconds === undefined ? {} : { timeSeconds }),
  };
  const { machine, signal } = place.options;
  const { hash } = backup.manifest;
  // Threads check ids by one hash only.
  const own = machine.hash === hash ? undefined : createReader(backup);
  const executor = own ?? machine.executor;
  try {
    return await place.add(description, async (sink) => {
      return await copyBackup(backup, description, sink, { executor, ...(signal === undefined ? {} : { signal }) });
    });
  } finally {
    await own?.close();
  }
}
