// SPDX-License-Identifier: MIT
// The export of a snapshot in QEMU before 8.0, asked so that its answers are right.
//
// There a snapshot that is asked about a range which begins with what was put aside, and goes on with what was not, looks
// into the guest's disk as it is now: what the guest discarded or zeroed since the moment reads as zeros, and silently.
// (Its hbitmap_status is wrong in this one case.) Ranges within a granule of copy-before-write are put aside as a whole or
// not at all; so reads are cut at granules. To ask for the state of each granule would take long on a large disk; that a
// range is zero is believed where nothing was put aside. Guarantee: QEMU puts aside before it changes, and we look into the
// fleecing file after QEMU has answered; so what reads as zero here was zero at the moment.

import { systemErrorCode } from '../../src/base/errors.js';
import { seekData, seekHole } from '../../src/base/syscalls.js';
import type { BlockDevice, BlockExtent } from '../../src/plugin-api.js';
import type { ExportDevice } from './source-qemu.js';

const SOUND_MAJOR = 8;
/** Of copy-before-write onto a file. */
const GRANULE_BYTES = 65536;
/** What is answered at a time: two system calls each. */
const MOST_EXTENTS = 1024;

export function isSnapshotSound({ major }: { readonly major: number }): boolean {
  return major >= SOUND_MAJOR;
}

export class GranuleDevice implements BlockDevice {
  readonly name: string;
  readonly lengthBytes: number;
  readonly alignmentBytes: number;
  readonly readOnly = true;
  readonly #below: ExportDevice;
  readonly #fleeceFd: number;

  /** @param fleeceFd of the fleecing file; stays the caller's */
  constructor(below: ExportDevice, fleeceFd: number) {
    this.name = below.name;
    this.lengthBytes = below.lengthBytes;
    this.alignmentBytes = below.alignmentBytes;
    this.#below = below;
    this.#fleeceFd = fleeceFd;
  }

  async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    const end = offsetBytes + into.byteLength;
    const pieces: Promise<void>[] = [];
    for (let at = offsetBytes; at < end; ) {
      const to = Math.min(end, at - (at % GRANULE_BYTES) + GRANULE_BYTES);
      pieces.push(this.#below.read(at, into.subarray(at - offsetBytes, to - offsetBytes)));
      at = to;
    }
    // The memory is the caller's again when nobody writes to it any more.
    for (const outcome of await Promise.allSettled(pieces)) if (outcome.status === 'rejected') throw outcome.reason;
  }

  async blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]> {
    const extents: BlockExtent[] = [];
    for (const extent of await this.#below.blockStatus(offsetBytes, lengthBytes)) {
      if (extents.length >= MOST_EXTENTS) break;
      if (extent.state === 'zero') extents.push(...this.#believed(extent, MOST_EXTENTS));
      else extents.push(extent);
    }
    return extents;
  }

  /** The extent's beginning at least: what was put aside in it is data. */
  #believed(zero: BlockExtent, most: number): BlockExtent[] {
    const end = zero.offsetBytes + zero.lengthBytes;
    const extents: BlockExtent[] = [];
    for (let at = zero.offsetBytes; at < end && extents.length < most; ) {
      const aside = this.#nextAside(at, end);
      if (aside.from > at) extents.push({ ...zero, offsetBytes: at, lengthBytes: aside.from - at });
      if (aside.to > aside.from) {
        extents.push({ offsetBytes: aside.from, lengthBytes: aside.to - aside.from, state: 'data' });
      }
      at = aside.to;
    }
    return extents;
  }

  /** The next stretch of what was put aside, in whole granules; empty at `end` where there is none. */
  #nextAside(from: number, end: number): { readonly from: number; readonly to: number } {
    try {
      const data = seekData(this.#fleeceFd, from) ?? end;
      if (data >= end) return { from: end, to: end };
      const hole = seekHole(this.#fleeceFd, data);
      return {
        from: Math.max(from, data - (data % GRANULE_BYTES)),
        to: Math.min(end, Math.max(data + 1, Math.ceil(hole / GRANULE_BYTES) * GRANULE_BYTES)),
      };
    } catch (error) {
      // A file system that does not tell: all is read.
      if (systemErrorCode(error) === undefined) throw error;
      return { from, to: end };
    }
  }

  discard(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.#below.discard(offsetBytes, lengthBytes);
  }

  write(offsetBytes: number, from: Uint8Array): Promise<void> {
    return this.#below.write(offsetBytes, from);
  }

  writeZeroes(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.#below.writeZeroes(offsetBytes, lengthBytes);
  }

  flush(): Promise<void> {
    return this.#below.flush();
  }

  close(): Promise<void> {
    return this.#below.close();
  }
}
