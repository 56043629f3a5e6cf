// SPDX-License-Identifier: MIT
// Which parts of a device are dirty, a bit for each granule, after QEMU's HBitmap.

import { divideUp, isPowerOfTwo, isSize } from '../base/checked.js';
import { UsageError } from '../base/errors.js';
import { decodeDirtyBitmap, encodeDirtyBitmap } from './dirty-bitmap-codec.js';
import { type BitTree, makeBitTree } from './dirty-bitmap-tree.js';

export interface DirtyRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/**
 * A bitmap over [0, lengthBytes), clean at first. A granule is dirty as a whole; the last one ends with the device.
 *
 * Memory grows with fragmentation, not with length: where 16 MiB (at 4 KiB granularity) are all dirty or all clean they
 * cost one bit, elsewhere half a KiB. Every operation on one granule, and every search, takes time that grows with the
 * logarithm of the length; a range costs in addition what lies mixed under it.
 *
 * Offsets and lengths out of range are refused with UsageError. Empty ranges are nothing.
 */
export class DirtyBitmap {
  readonly granules: number;
  #bits: BitTree;

  /** @param granularityBytes any power of two, 1 included */
  constructor(
    readonly lengthBytes: number,
    readonly granularityBytes: number,
  ) {
    if (!isSize(lengthBytes) || !isPowerOfTwo(granularityBytes, 1, 2 ** 52)) {
      throw new UsageError('bad-bitmap', 'a bitmap has a length and a granularity that is a power of two', {
        found: `${lengthBytes} bytes, granularity ${granularityBytes}`,
      });
    }
    this.granules = divideUp(lengthBytes, granularityBytes);
    this.#bits = makeBitTree(this.granules);
  }

  /** Bytes of all dirty granules, the last one at its true length. */
  get dirtyBytes(): number {
    const whole = this.#bits.count * this.granularityBytes;
    const missing = this.granules * this.granularityBytes - this.lengthBytes;
    return missing > 0 && this.#bits.get(this.granules - 1) ? whole - missing : whole;
  }

  get isClean(): boolean {
    return this.#bits.count === 0;
  }

  /** True when every granule is dirty, and of a bitmap of no length. */
  get isAllDirty(): boolean {
    return this.#bits.count === this.granules;
  }

  get(offsetBytes: number): boolean {
    this.#check(offsetBytes, 1);
    return this.#bits.get(this.#granule(offsetBytes));
  }

  /** Every granule that the range touches becomes dirty. */
  set(offsetBytes: number, lengthBytes: number): void {
    this.#fill(offsetBytes, lengthBytes, true);
  }

  /** Every granule that the range touches becomes clean: callers align. */
  clear(offsetBytes: number, lengthBytes: number): void {
    this.#fill(offsetBytes, lengthBytes, false);
  }

  #fill(offsetBytes: number, lengthBytes: number, value: boolean): void {
    this.#check(offsetBytes, lengthBytes);
    if (lengthBytes === 0) return;
    this.#bits.fill(this.#granule(offsetBytes), this.#granule(offsetBytes + lengthBytes - 1) + 1, value);
  }

  /** Sets what is dirty in `other`, of the same length; granularities may differ. */
  merge(other: DirtyBitmap): void {
    if (other.lengthBytes !== this.lengthBytes) {
      throw new UsageError('bad-bitmap', 'bitmaps of different lengths cannot be merged', {
        expected: `${this.lengthBytes} bytes`,
        found: `${other.lengthBytes} bytes`,
      });
    }
    if (other === this) return;
    for (const range of other.ranges()) this.set(range.offsetBytes, range.lengthBytes);
  }

  /** The first dirty byte in [from, to): `from` itself where it lies in a dirty granule. */
  nextDirty(fromBytes: number, toBytes = this.lengthBytes): number | undefined {
    return this.#next(fromBytes, toBytes, true);
  }

  /** The first clean byte in [from, to). */
  nextClean(fromBytes: number, toBytes = this.lengthBytes): number | undefined {
    return this.#next(fromBytes, toBytes, false);
  }

  #next(fromBytes: number, toBytes: number, value: boolean): number | undefined {
    const to = Math.min(toBytes, this.lengthBytes);
    if (fromBytes >= to) return undefined;
    this.#check(fromBytes, to - fromBytes);
    const found = this.#bits.find(this.#granule(fromBytes), this.#granule(to - 1) + 1, value);
    return found < 0 ? undefined : Math.max(fromBytes, found * this.granularityBytes);
  }

  /** The first run of dirty bytes in [from, to), of which at most `mostBytes` are looked at and given. */
  nextDirtyRange(
    fromBytes: number,
    toBytes = this.lengthBytes,
    mostBytes = Number.MAX_SAFE_INTEGER,
  ): DirtyRange | undefined {
    const start = this.nextDirty(fromBytes, toBytes);
    if (start === undefined) return undefined;
    const most = Math.min(toBytes, this.lengthBytes, start + mostBytes);
    return { offsetBytes: start, lengthBytes: (this.nextClean(start, most) ?? most) - start };
  }

  /** All dirty runs in ascending order. Changes behind the one last given are not seen; those before it are. */
  *ranges(): Generator<DirtyRange> {
    for (let range = this.nextDirtyRange(0); range !== undefined; ) {
      yield range;
      range = this.nextDirtyRange(range.offsetBytes + range.lengthBytes);
    }
  }

  /** A copy that lives on its own. */
  snapshot(): DirtyBitmap {
    const copy = new DirtyBitmap(this.lengthBytes, this.granularityBytes);
    copy.#bits = this.#bits.clone();
    return copy;
  }

  /** Its content with a seal; see dirty-bitmap-codec.ts. A few bytes for each run, half a KiB for 4096 granules at most. */
  serialize(): Uint8Array {
    return encodeDirtyBitmap(this, (visitor) => this.#bits.visit(0, visitor));
  }

  /**
   * Throws DamageError for bytes that `serialize` did not give. Takes memory in proportion to the number of bytes (at
   * most some 200 times as much, for a liar's widely scattered runs), whatever length they claim.
   */
  static deserialize(bytes: Uint8Array): DirtyBitmap {
    return decodeDirtyBitmap(bytes, (lengthBytes, granularityBytes) => {
      const bitmap = new DirtyBitmap(lengthBytes, granularityBytes);
      return { bitmap, granules: bitmap.granules, fill: (from, to) => void bitmap.#bits.fill(from, to, true) };
    });
  }

  #granule(offsetBytes: number): number {
    return Math.floor(offsetBytes / this.granularityBytes);
  }

  #check(offsetBytes: number, lengthBytes: number): void {
    if (isSize(offsetBytes) && isSize(lengthBytes) && offsetBytes <= this.lengthBytes - lengthBytes) return;
    throw new UsageError('out-of-range', `a range of ${lengthBytes} bytes does not lie inside the bitmap`, {
      offsetBytes,
      expected: `a range inside ${this.lengthBytes} bytes`,
      found: `${offsetBytes} + ${lengthBytes}`,
    });
  }
}
