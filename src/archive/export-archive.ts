// SPDX-License-Identifier: MIT
// A backup becomes an archive of its own, by the frames that hold its chunks.
//
// Guarantees: the archive holds the chunks and pages of the backup, each once, and none of another backup: a stored frame
// goes as it is only where all of it is wanted. Every chunk was checked against its id on the way; one that cannot be had
// is a DamageError, and there is no archive then.

import type { Manifest } from '../../formats/vmar/manifest.js';
import { InterruptedError } from '../base/errors.js';
import type { DumpResult } from '../plugin-api.js';
import type { SinkMachine } from './archive-sink.js';
import { type CopiedDisk, copyById, countsOf } from './copy/copy-by-id.js';
import { describeAgain } from './copy-backup.js';
import { backupIdentity } from './identity.js';
import type { OpenBackup } from './open-backup.js';
import type { ManifestDraft, Vault } from './vault.js';

export interface ExportArchiveOptions {
  /** Of the backup's hash and cluster size. */
  readonly machine: SinkMachine;
  readonly signal: AbortSignal;
  /** Told of bytes of the disks that are done. */
  readonly onProgress: (bytes: number) => void;
}

/** Takes the vault, which must be of the backup's shape. @throws DamageError, InterruptedError, and what writing throws */
export async function exportArchive(
  backup: OpenBackup,
  vault: Vault,
  { machine, signal, onProgress }: ExportArchiveOptions,
): Promise<DumpResult> {
  const { manifest } = backup;
  const startedMillis = Date.now();
  try {
    await vault.begin(describeAgain(manifest));
    const options = { machine, signal, onProgress, relatives: [] };
    const draft = (disks: readonly CopiedDisk[]) => draftArchive(manifest, disks, startedMillis);
    const { backup: name, disks } = await copyById(backup, vault, { ...options, draft });
    return { backup: name, disks: draft(disks).disks };
  } catch (error) {
    await vault.abort();
    throw signal.aborted ? new InterruptedError() : error;
  }
}

/** As if the backup was made anew, from what is stored of it. */
function draftArchive(manifest: Manifest, copied: readonly CopiedDisk[], startedMillis: number): ManifestDraft {
  return {
    ...manifest,
    sourceUuid: backupIdentity(manifest),
    disks: manifest.disks.map((disk, index) => {
      const counts = countsOf(copied[index]!);
      const readBytes = disk.sizeBytes - counts.zeroBytes;
      return { ...disk, bitmapName: '', fullReason: '', readBytes, ...counts };
    }),
    startedMillis,
  };
}
