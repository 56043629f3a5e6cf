// SPDX-License-Identifier: MIT
// Copies a disk of a backup to a block device that has no descriptor which threads could write to.
//
// Guarantees: as those of restore-disk.ts: what is written was checked, a range that cannot be had is never filled with
// anything but zeros and is always reported, and nothing is durable before the device's own flush.

import { DamageError, InterruptedError } from '../base/errors.js';
import type { BlockDevice } from '../block/device.js';
import type { BackupDisk } from './backup-disk.js';
import { addRange, joinRanges, type LostRange } from './lost-ranges.js';
import type { RestoreResult } from './restore-disk.js';

export interface CopyOptions {
  readonly disk: BackupDisk;
  readonly target: BlockDevice;
  readonly writeZeros: boolean;
  /** Go on past damage with zeros; else the first damage ends the copy with its error. */
  readonly allowDamaged: boolean;
  readonly signal?: AbortSignal;
  /** Called with the bytes of the disk done since the last call. */
  readonly onProgress?: (bytes: number) => void;
}

/** A frame is as large at most: most pieces come out of one. */
const PIECE_BYTES = 1 << 20;
const PIECES_IN_FLIGHT = 8;
const STATUS_BYTES = 2 ** 36;

/** @throws DamageError on the first range that cannot be had, unless `allowDamaged`; InterruptedError on abort. */
export async function restoreToDevice(options: CopyOptions): Promise<RestoreResult> {
  return await new DeviceRestore(options).run();
}

class DeviceRestore {
  readonly #options: CopyOptions;
  readonly #inFlight = new Set<Promise<void>>();
  readonly #buffers: Uint8Array[] = [];
  readonly #lost: LostRange[] = [];
  #writtenBytes = 0;
  #zeroBytes = 0;
  #failure: unknown;

  constructor(options: CopyOptions) {
    this.#options = options;
  }

  async run(): Promise<RestoreResult> {
    try {
      await this.#walk();
    } catch (error) {
      this.#failure ??= error;
    }
    await Promise.all(this.#inFlight);
    if (this.#failure !== undefined) throw this.#failure;
    return { writtenBytes: this.#writtenBytes, zeroBytes: this.#zeroBytes, lost: joinRanges(this.#lost) };
  }

  async #walk(): Promise<void> {
    const { disk } = this.#options;
    for (let at = 0; at < disk.lengthBytes; ) {
      for (const extent of await this.#status(at)) {
        at = extent.offsetBytes + extent.lengthBytes;
        if (extent.state === 'zero') await this.#start(this.#zero(extent.offsetBytes, extent.lengthBytes));
        else await this.#copyAll(extent.offsetBytes, at);
      }
    }
  }

  /** Where the map itself is damaged, reading tells what of it can be had. */
  async #status(at: number): Promise<Awaited<ReturnType<BackupDisk['blockStatus']>>> {
    const { disk, allowDamaged } = this.#options;
    const lengthBytes = Math.min(STATUS_BYTES, disk.lengthBytes - at);
    try {
      return await disk.blockStatus(at, lengthBytes);
    } catch (error) {
      if (!allowDamaged || !(error instanceof DamageError)) throw error;
      return [{ offsetBytes: at, lengthBytes: Math.min(PIECE_BYTES, lengthBytes), state: 'data' }];
    }
  }

  async #copyAll(from: number, end: number): Promise<void> {
    for (let at = from; at < end; ) {
      const lengthBytes = Math.min(PIECE_BYTES - (at % PIECE_BYTES), end - at);
      await this.#start(this.#copy(at, lengthBytes));
      at += lengthBytes;
    }
  }

  /** Resolves when the next may be started. */
  async #start(work: Promise<void>): Promise<void> {
    const tracked = work
      .catch((error: unknown) => {
        this.#failure ??= error;
      })
      .finally(() => this.#inFlight.delete(tracked));
    this.#inFlight.add(tracked);
    while (this.#inFlight.size >= PIECES_IN_FLIGHT) await Promise.race(this.#inFlight);
    if (this.#options.signal?.aborted) throw new InterruptedError();
    if (this.#failure !== undefined) throw this.#failure;
  }

  async #zero(offsetBytes: number, lengthBytes: number): Promise<void> {
    const { target, writeZeros, onProgress } = this.#options;
    if (writeZeros) await target.writeZeroes(offsetBytes, lengthBytes);
    this.#zeroBytes += lengthBytes;
    onProgress?.(lengthBytes);
  }

  async #copy(offsetBytes: number, lengthBytes: number): Promise<void> {
    const buffer = this.#buffers.pop() ?? new Uint8Array(PIECE_BYTES);
    try {
      await this.#options.disk.read(offsetBytes, buffer.subarray(0, lengthBytes));
      await this.#write(offsetBytes, buffer.subarray(0, lengthBytes));
    } catch (error) {
      if (!this.#options.allowDamaged || !(error instanceof DamageError)) throw error;
      await this.#copyWhatIsThere(offsetBytes, buffer.subarray(0, lengthBytes));
    } finally {
      this.#buffers.push(buffer);
    }
  }

  async #write(offsetBytes: number, bytes: Uint8Array): Promise<void> {
    await this.#options.target.write(offsetBytes, bytes);
    this.#writtenBytes += bytes.byteLength;
    this.#options.onProgress?.(bytes.byteLength);
  }

  /** Cluster by cluster. */
  async #copyWhatIsThere(offsetBytes: number, buffer: Uint8Array): Promise<void> {
    const { disk, target, writeZeros, onProgress } = this.#options;
    for (let done = 0; done < buffer.byteLength; ) {
      const at = offsetBytes + done;
      const unit = disk.clusterSizeBytes;
      const lengthBytes = Math.min(unit - (at % unit), buffer.byteLength - done);
      const cluster = buffer.subarray(done, done + lengthBytes);
      done += lengthBytes;
      const lost = await disk.read(at, cluster).then(() => undefined, onlyDamage);
      if (lost === undefined) {
        await this.#write(at, cluster);
        continue;
      }
      if (writeZeros) await target.writeZeroes(at, lengthBytes);
      addRange(this.#lost, { offsetBytes: at, lengthBytes, problem: lost.message });
      onProgress?.(lengthBytes);
    }
  }
}

function onlyDamage(error: unknown): DamageError {
  if (error instanceof DamageError) return error;
  throw error;
}
