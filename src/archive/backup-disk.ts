// SPDX-License-Identifier: MIT
// One disk of a backup as a block device that can only be read.
//
// Guarantees: no byte is given that was not checked against its chunk's id, and no zero that the map does not have. A
// range whose chunk is damaged rejects with DamageError; the rest of the disk stays readable.

import type { ManifestDisk } from '../../formats/vmar/manifest.js';
import { DamageError, UsageError, type VmarError } from '../base/errors.js';
import { type Log, SILENT } from '../base/log.js';
import { copyBytes } from '../base/syscalls.js';
import type { BlockDevice, BlockExtent } from '../block/device.js';
import { checkRange } from '../block/range.js';
import type { Executor } from '../pipeline/executor.js';
import { ChunkReader } from './chunk-reader.js';
import { findDisk } from './find-disk.js';
import { isZeroId, MapReader } from './map-reader.js';
import { mapStatus } from './map-status.js';
import type { OpenBackup } from './open-backup.js';

export interface BackupDiskOptions {
  /** Its threads read, decompress and check; without one that is done on the calling thread. */
  readonly executor?: Executor;
  /** Memory for decompressed frames, by default 64 MiB; shared by all disks of the backup. */
  readonly cacheBytes?: number;
  /** Read on ahead of sequential readers; true by default. */
  readonly readAhead?: boolean;
  readonly log?: Log;
}

/**
 * A disk of a backup by its name, as `findDisk` takes it. Opening reads nothing, whatever the disk's size. The backup
 * stays the caller's: it is closed after its disks.
 * @throws NotFoundError if there is no such disk, UsageError if the name fits several.
 */
export async function openBackupDisk(
  backup: OpenBackup,
  diskName: string,
  options: BackupDiskOptions = {},
): Promise<BackupDisk> {
  return new BackupDisk(backup, findDisk(backup.manifest, diskName), options);
}

/**
 * `read` rejects with DamageError where a chunk is damaged or gone, its `offsetBytes` that of the first such cluster in
 * the disk; with FailedError 'store-unreachable' if the datastore or archive is away as a whole, and works again when
 * that is back.
 */
export class BackupDisk implements BlockDevice {
  /** The backup and the disk: `vm/100/2026-11-21T02:00:00Z:scsi0`. */
  readonly name: string;
  readonly lengthBytes: number;
  readonly alignmentBytes = 1;
  readonly readOnly = true;
  readonly clusterSizeBytes: number;
  /** As the manifest has it. */
  readonly disk: ManifestDisk;
  readonly #chunks: ChunkReader;
  readonly #map: MapReader;
  readonly #log: Log;

  /** @internal See openBackupDisk. */
  constructor(backup: OpenBackup, disk: ManifestDisk, options: BackupDiskOptions) {
    const { sizeBytes, clusterSizeBytes, mapRoot } = disk;
    this.name = `${backup.name}:${disk.name}`;
    this.disk = disk;
    this.lengthBytes = sizeBytes;
    this.clusterSizeBytes = clusterSizeBytes;
    this.#log = options.log ?? SILENT;
    this.#chunks = new ChunkReader(backup.source);
    this.#map = new MapReader(this.#chunks, {
      ...{ root: mapRoot, sizeBytes, clusterSizeBytes },
      fanout: backup.manifest.mapFanout,
    });
  }

  async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    checkRange(this, offsetBytes, into.byteLength);
    for (let done = 0; done < into.byteLength; ) {
      const offset = offsetBytes + done;
      const inCluster = offset % this.clusterSizeBytes;
      const length = Math.min(into.byteLength - done, this.clusterSizeBytes - inCluster);
      await this.#readCluster(
        (offset - inCluster) / this.clusterSizeBytes,
        inCluster,
        into.subarray(done, done + length),
      );
      done += length;
    }
  }

  async #readCluster(cluster: number, inCluster: number, into: Uint8Array): Promise<void> {
    const start = cluster * this.clusterSizeBytes;
    try {
      const id = await this.#map.pageId(0, cluster);
      if (isZeroId(id)) {
        into.fill(0);
        return;
      }
      const bytes = await this.#chunks.read(id, 0);
      const expected = Math.min(this.clusterSizeBytes, this.lengthBytes - start);
      if (bytes.byteLength !== expected)
        throw new DamageError('chunk-length', 'a chunk has another length than its cluster');
      copyBytes(into, bytes.subarray(inCluster, inCluster + into.byteLength));
    } catch (error) {
      throw error instanceof DamageError ? this.#damaged(start, error) : error;
    }
  }

  #damaged(offsetBytes: number, cause: VmarError): DamageError {
    const place =
      cause.object === undefined
        ? ''
        : ` (${cause.object}${cause.offsetBytes === undefined ? '' : ` at byte ${cause.offsetBytes}`})`;
    this.#log.debug(`${this.name} at byte ${offsetBytes}: ${cause.message}${place}`);
    return new DamageError(cause.code, `the backup is damaged here: ${cause.message}${place}`, {
      ...{ object: this.name, offsetBytes, cause },
      advice: 'Run `vmar verify` to see all that is damaged.',
    });
  }

  async blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]> {
    checkRange(this, offsetBytes, lengthBytes);
    return await mapStatus(this.#map, { offsetBytes, lengthBytes, clusterSizeBytes: this.clusterSizeBytes });
  }

  async prefetch(_offsetBytes: number, _lengthBytes: number): Promise<void> {}

  async write(_offsetBytes: number, _from: Uint8Array): Promise<void> {
    throw this.#readOnly();
  }

  async writeZeroes(_offsetBytes: number, _lengthBytes: number): Promise<void> {
    throw this.#readOnly();
  }

  async discard(_offsetBytes: number, _lengthBytes: number): Promise<void> {
    throw this.#readOnly();
  }

  #readOnly(): UsageError {
    return new UsageError('read-only', 'a backup is never written to', { object: this.name });
  }

  async flush(): Promise<void> {}

  async close(): Promise<void> {}
}
