// SPDX-License-Identifier: MIT
// One disk of a backup as a block device that can only be read.
//
// Guarantees: no byte is given that was not checked against its chunk's id, and no zero that the map does not have. A
// range whose chunk is damaged rejects with DamageError; the rest of the disk stays readable.

import type { ManifestDisk } from '../../formats/vmar/manifest.js';
import { DamageError, FailedError, UsageError, type VmarError } from '../base/errors.js';
import { type Log, SILENT } from '../base/log.js';
import type { BlockDevice, BlockExtent } from '../block/device.js';
import { checkRange } from '../block/range.js';
import type { Executor } from '../pipeline/executor.js';
import { BackupReading } from './backup-reading.js';
import { DiskReader, type LostPart } from './disk-reader.js';
import { findDisk } from './find-disk.js';
import { DEFAULT_CACHE_BYTES } from './frame-cache.js';
import { MapReader } from './map-reader.js';
import { mapStatus } from './map-status.js';
import type { OpenBackup } from './open-backup.js';
import { type ReadNote, ReadStreams } from './read-streams.js';

export interface BackupDiskOptions {
  /** Its threads read, decompress and check; without one that is done on the calling thread. */
  readonly executor?: Executor;
  /** Memory for decompressed frames, by default 64 MiB; shared by all disks of the backup, the first one's choice. */
  readonly cacheBytes?: number;
  /** Read on ahead of sequential readers; true by default. */
  readonly readAhead?: boolean;
  /** Hears of damage, once a range. */
  readonly log?: Log;
}

/** A stream is never read ahead of by more, nor by more than this share of the cache. */
const MOST_AHEAD_BYTES = 8 << 20;
const AHEAD_SHARE = 8;
/** Ranges of damage that the log is told of: a lost pack has tens of thousands. */
const MOST_TOLD = 64;

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
  readonly #reading: BackupReading;
  readonly #map: MapReader;
  readonly #reader: DiskReader;
  readonly #streams: ReadStreams | undefined;
  readonly #cacheBytes: number;
  readonly #log: Log;
  /** Offsets of clusters whose damage the log was told of. */
  readonly #told = new Set<number>();
  #isAway = false;
  readonly #forget = (): void => this.#reader.forgetPlaces();

  /** @internal See openBackupDisk. */
  constructor(backup: OpenBackup, disk: ManifestDisk, options: BackupDiskOptions) {
    const { sizeBytes, clusterSizeBytes, mapRoot } = disk;
    const { executor, cacheBytes } = options;
    const fanout = backup.manifest.mapFanout;
    this.name = `${backup.name}:${disk.name}`;
    this.disk = disk;
    this.lengthBytes = sizeBytes;
    this.clusterSizeBytes = clusterSizeBytes;
    this.#cacheBytes = cacheBytes ?? DEFAULT_CACHE_BYTES;
    this.#log = options.log ?? SILENT;
    this.#reading = BackupReading.of(backup.source, { executor, cacheBytes });
    this.#reading.join(this.#forget);
    this.#map = new MapReader(this.#reading, { root: mapRoot, sizeBytes, clusterSizeBytes, fanout });
    this.#reader = new DiskReader(this.#reading, this.#map, { sizeBytes, clusterSizeBytes, fanout });
    const aheadBytes = Math.min(MOST_AHEAD_BYTES, this.#cacheBytes / AHEAD_SHARE);
    this.#streams = options.readAhead === false ? undefined : new ReadStreams(aheadBytes);
  }

  async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    checkRange(this, offsetBytes, into.byteLength);
    const done = this.#reader.readNow(offsetBytes, into);
    const note = this.#streams?.note(offsetBytes, into.byteLength, this.lengthBytes);
    if (done === into.byteLength) {
      this.#readAhead(note);
      return;
    }
    const isSequential = note === undefined || note.isSequential || into.byteLength > this.clusterSizeBytes;
    const rest = this.#reader.read(offsetBytes + done, into.subarray(done), isSequential);
    this.#readAhead(note);
    const lost = await rest;
    if (lost !== undefined) throw this.#failure(lost);
    this.#tellBack();
  }

  tryRead(offsetBytes: number, into: Uint8Array): boolean {
    try {
      checkRange(this, offsetBytes, into.byteLength);
      if (this.#reader.readNow(offsetBytes, into) < into.byteLength) return false;
    } catch {
      return false;
    }
    this.#readAhead(this.#streams?.note(offsetBytes, into.byteLength, this.lengthBytes));
    return true;
  }

  #readAhead(note: ReadNote | undefined): void {
    const range = note?.ahead;
    if (range !== undefined) void this.#reader.ahead(range.offsetBytes, range.lengthBytes);
  }

  #failure({ offsetBytes, lengthBytes, error }: LostPart): unknown {
    if (!(error instanceof DamageError)) {
      if (error instanceof FailedError && error.code === 'store-unreachable') this.#tellAway(error);
      return error;
    }
    const place = placeOf(error);
    this.#tellDamage(offsetBytes, `${lengthBytes} bytes from byte ${offsetBytes} on`, `${error.message}${place}`);
    return new DamageError(error.code, `the backup is damaged here: ${error.message}${place}`, {
      ...{ object: this.name, offsetBytes, cause: error },
      advice: 'Run `vmar verify` to see all that is damaged.',
    });
  }

  #tellDamage(offsetBytes: number, range: string, problem: string): void {
    if (this.#told.size > MOST_TOLD || this.#told.has(offsetBytes)) return;
    this.#told.add(offsetBytes);
    if (this.#told.size <= MOST_TOLD) this.#log.warn(`${this.name}: ${range} are damaged: ${problem}`);
    else this.#log.warn(`${this.name}: more is damaged, and not told range by range; \`vmar verify\` tells what`);
  }

  /** Once for each time that it goes away. */
  #tellAway(error: FailedError): void {
    if (this.#isAway) return;
    this.#isAway = true;
    this.#log.warn(`${this.name}: ${error.message} (${error.object})`);
  }

  #tellBack(): void {
    if (!this.#isAway) return;
    this.#isAway = false;
    this.#log.info(`${this.name}: the backup can be reached again`);
  }

  /** Bounded work a call: it may end before the range does. 'data' where the map is damaged. */
  async blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]> {
    checkRange(this, offsetBytes, lengthBytes);
    return await mapStatus(this.#map, { offsetBytes, lengthBytes, clusterSizeBytes: this.clusterSizeBytes });
  }

  /** Loads at most half of what the cache holds. */
  async prefetch(offsetBytes: number, lengthBytes: number): Promise<void> {
    const end = Math.min(this.lengthBytes, offsetBytes + Math.min(lengthBytes, this.#cacheBytes / 2));
    if (offsetBytes >= 0 && end > offsetBytes) await this.#reader.ahead(offsetBytes, end - offsetBytes);
  }

  /** Bytes read from packs and frames loaded, by all disks of the backup. */
  get loaded(): { readonly frames: number; readonly storedBytes: number } {
    return this.#reading.frames.counts;
  }

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

  async close(): Promise<void> {
    await this.#reading.leave(this.#forget);
  }
}

function placeOf({ object, offsetBytes }: VmarError): string {
  if (object === undefined) return '';
  return offsetBytes === undefined ? ` (${object})` : ` (${object} at byte ${offsetBytes})`;
}
