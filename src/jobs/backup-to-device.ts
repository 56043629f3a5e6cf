// SPDX-License-Identifier: MIT
// Clusters into a device, at the places where they were.

import { Limiter } from '../base/bounded-queue.js';
import { isAllZero } from '../base/bytes.js';
import { UsageError } from '../base/errors.js';
import { type Claim, claim } from '../block/claims.js';
import type { BlockDevice } from '../block/device.js';
import { DirtyBitmap } from '../block/dirty-bitmap.js';
import type { ClusterTarget } from './backup-target.js';

const PIECE_BYTES = 1 << 20;
const ZERO_PIECE_BYTES = 16 << 20;
/** The memory it takes, in pieces. */
const SLOTS = 8;

export interface DeviceTargetOptions {
  readonly clusterSizeBytes: number;
  /** It reads as zeros everywhere, so that zeros need not be written. */
  readonly targetIsZero: boolean;
}

/**
 * Zeros are written unless the target is known to hold them: also those that are found only by looking at the data. What
 * a failed write may have left behind is not taken for zero.
 */
export class DeviceTarget implements ClusterTarget {
  readonly clusterSizeBytes: number;
  readonly pieceBytes: number;
  readonly zeroPieceBytes: number;
  readonly holdsUnchanged = true;
  readonly failsForGood = false;
  #isZero: boolean;
  /** Where something may lie although the target was zero. */
  readonly #soiled: DirtyBitmap;
  readonly #places = new Limiter(SLOTS);
  readonly #free: Uint8Array[] = [];

  /** @throws UsageError for a target that is read-only or smaller than the disk */
  constructor(
    readonly device: BlockDevice,
    diskBytes: number,
    options: DeviceTargetOptions,
  ) {
    if (device.lengthBytes < diskBytes) {
      throw new UsageError('target-too-small', 'the target is smaller than the disk', {
        object: device.name,
        expected: `${diskBytes} bytes`,
        found: `${device.lengthBytes} bytes`,
      });
    }
    this.#isZero = options.targetIsZero;
    this.clusterSizeBytes = options.clusterSizeBytes;
    this.pieceBytes = Math.max(PIECE_BYTES, options.clusterSizeBytes);
    this.zeroPieceBytes = options.targetIsZero ? Number.MAX_SAFE_INTEGER : Math.max(ZERO_PIECE_BYTES, this.pieceBytes);
    this.#soiled = new DirtyBitmap(diskBytes, options.clusterSizeBytes);
  }

  claim(who: string): Claim {
    return claim(this.device, who, ['write'], ['consistent-read']);
  }

  async lease(): Promise<Uint8Array> {
    await this.#places.enter();
    return this.#free.pop() ?? Buffer.allocUnsafe(this.pieceBytes);
  }

  release(slot: Uint8Array): void {
    this.#free.push(slot);
    this.#places.leave();
  }

  async write(offsetBytes: number, slot: Uint8Array, lengthBytes: number): Promise<void> {
    const bytes = slot.subarray(0, lengthBytes);
    try {
      for (const run of runs(bytes, this.clusterSizeBytes)) {
        if (run.isZero) await this.writeZeroes(offsetBytes + run.from, run.to - run.from);
        else await this.#change(offsetBytes + run.from, bytes.subarray(run.from, run.to));
      }
    } finally {
      this.release(slot);
    }
  }

  async writeZeroes(offsetBytes: number, lengthBytes: number): Promise<void> {
    if (this.#isZero && this.#soiled.nextDirty(offsetBytes, offsetBytes + lengthBytes) === undefined) return;
    await this.device.writeZeroes(offsetBytes, lengthBytes);
  }

  async #change(offsetBytes: number, bytes: Uint8Array): Promise<void> {
    if (this.#isZero) this.#soiled.set(offsetBytes, bytes.byteLength);
    await this.device.write(offsetBytes, bytes);
  }

  async keep(): Promise<void> {}

  forgetZeros(): void {
    this.#isZero = false;
  }

  flush(): Promise<void> {
    return this.device.flush();
  }
}

/** The bytes in runs of clusters that are all zero, or not. */
function* runs(bytes: Uint8Array, unit: number): Generator<{ from: number; to: number; isZero: boolean }> {
  let from = 0;
  let isZero = false;
  for (let at = 0; at < bytes.byteLength; at += unit) {
    const isHere = isAllZero(bytes.subarray(at, at + unit));
    if (at > from && isHere !== isZero) {
      yield { from, to: at, isZero };
      from = at;
    }
    isZero = isHere;
  }
  if (from < bytes.byteLength) yield { from, to: bytes.byteLength, isZero };
}
