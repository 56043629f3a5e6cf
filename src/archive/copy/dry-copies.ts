// SPDX-License-Identifier: MIT
// What copying would bring, without bringing it: the same walks, with what earlier backups of the run would have brought
// taken for there.

import type { ChunkEntry } from '../../../formats/vmar/extent.js';
import { diskBytes } from '../../../formats/vmar/manifest.js';
import { VmarError } from '../../base/errors.js';
import { type BackupRef, formatBackupId } from '../../store/backup-id.js';
import { IdTable, wordsOf } from '../../store/gc/id-table.js';
import { ChunkReader } from '../chunk-reader.js';
import { type DatastoreVault, openDatastoreVault } from '../datastore-vault.js';
import { type OpenBackup, openBackupAt } from '../open-backup.js';
import { describeCopy, isOfOneShape, relativesOf } from './copy-one.js';
import type { CopiedBackup, Copier, CopyOptions } from './copy-stores.js';
import { LackingWalk } from './lacking.js';

export class DryCopies implements Copier {
  readonly #options: CopyOptions;
  /** Chunks and pages that would have been brought by now. */
  readonly #brought = new IdTable();

  constructor(options: CopyOptions) {
    this.#options = options;
  }

  async copy(ref: BackupRef): Promise<CopiedBackup> {
    const { source, destination, waitSeconds, signal, onProgress } = this.#options;
    const backup = await openBackupAt(source, ref);
    try {
      const vault = await openDatastoreVault(destination, ref, { waitSeconds, signal });
      try {
        const { disks } = backup.manifest;
        const sizeBytes = diskBytes(backup.manifest);
        const told = { backup: formatBackupId(ref), isKnown: false, sizeBytes };
        if (isOfOneShape(backup.manifest, vault)) {
          return { ...told, isRechunked: false, ...(await this.#look(ref, backup, vault)) };
        }
        onProgress(sizeBytes);
        // Nobody knows before its clusters are hashed anew: at most so much.
        const newBytes = sizeBytes - disks.reduce((sum, disk) => sum + disk.zeroBytes, 0);
        return { ...told, isRechunked: true, newBytes, storedBytes: newBytes };
      } finally {
        await vault.abort();
      }
    } finally {
      await backup.close();
    }
  }

  async complete(): Promise<void> {}

  async #look(ref: BackupRef, backup: OpenBackup, vault: DatastoreVault) {
    const { destination, onProgress, signal } = this.#options;
    const { manifest, source } = backup;
    const reader = new ChunkReader(source);
    const relatives = await relativesOf(destination, ref, vault, describeCopy(backup));
    const remembered = new Set<string>();
    let newBytes = 0;
    let storedBytes = 0;
    const bring = (entry: ChunkEntry): void => {
      this.#brought.add(wordsOf(entry.id), 0);
    };
    for (const [index, disk] of manifest.disks.entries()) {
      const walk = new LackingWalk(disk, index, remembered, {
        ...{ reader, fanout: manifest.mapFanout, relatives, onProgress, signal, walked: this.#brought },
        has: (id) => this.#brought.find(wordsOf(id), 0) >= 0 || vault.has(id),
        onChunk: async (entry) => {
          bring(entry);
          newBytes += entry.lengthBytes;
          storedBytes += storedShare(backup, entry);
        },
        onPage: async (_bytes, entry) => bring(entry),
      });
      await walk.run();
    }
    return { newBytes, storedBytes: Math.round(storedBytes) };
  }
}

/** What the chunk takes at the source. */
function storedShare({ source }: OpenBackup, { id, lengthBytes }: ChunkEntry): number {
  try {
    const place = source.locate(id);
    if (place === undefined) return lengthBytes;
    const frame = place.container.frame(place.frame);
    return (frame.storedBytes * lengthBytes) / frame.rawBytes;
  } catch (error) {
    if (error instanceof VmarError) return lengthBytes;
    throw error;
  }
}
