// SPDX-License-Identifier: MIT
// Cuts a disk into what a backup does with it: whole clusters that are holes, however many, and stretches to read that
// fit into one slot.

import { BugError } from '../base/errors.js';
import type { BlockDevice, BlockExtent } from '../block/device.js';

/** Starts at a cluster; ends at one, or at the end of the disk. Data never crosses a multiple of `slotBytes`. */
export interface Segment {
  readonly kind: 'data' | 'zero';
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/**
 * A shorter hole between data is read with it: reading zeros costs less than a request more. Only a quarter of a slot
 * counts as worth skipping.
 */
const SKIPPED_SHARE_OF_SLOT = 4;

/** How much of a disk one status request asks about. */
const STATUS_BYTES = 2 ** 36;

/** Whole clusters, up to a cluster's edge or the end of the disk. */
export interface SegmentRange {
  readonly fromBytes: number;
  readonly toBytes: number;
}

/**
 * The segments of the disk, or of a range of it, ascending, without gaps. A cluster that is partly data is data, and so is a hole of
 * fewer than `leastHoleBytes` that follows data in its slot; neighbouring holes are one segment.
 */
export async function* segments(
  device: BlockDevice,
  clusterSizeBytes: number,
  slotBytes: number,
  leastHoleBytes = slotBytes / SKIPPED_SHARE_OF_SLOT,
  { fromBytes, toBytes }: SegmentRange = { fromBytes: 0, toBytes: device.lengthBytes },
): AsyncGenerator<Segment, void, undefined> {
  const cutter = new Cutter(fromBytes, toBytes, clusterSizeBytes, slotBytes, leastHoleBytes);
  for (let at = fromBytes; at < toBytes; ) {
    const extents = await device.blockStatus(at, Math.min(STATUS_BYTES, toBytes - at));
    const before = at;
    for (const extent of extents) {
      at += extent.lengthBytes;
      if (extent.offsetBytes + extent.lengthBytes !== at || extent.lengthBytes < 0 || at > toBytes) {
        throw badStatus(device, extent);
      }
      yield* cutter.add(extent);
    }
    if (at === before) throw badStatus(device, extents[0]);
  }
  yield* cutter.end();
}

function badStatus(device: BlockDevice, extent: BlockExtent | undefined): BugError {
  return new BugError(`${device.name}: a block status out of place: ${JSON.stringify(extent)}`);
}

/** Takes consecutive extents of a range, gives segments. */
class Cutter {
  /** Up to here segments were given. */
  #given: number;
  /** From `#given` up to here all is to be read; a cluster's edge or the end of the range. */
  #dataEnd: number;

  constructor(
    fromBytes: number,
    private readonly toBytes: number,
    private readonly clusterSizeBytes: number,
    private readonly slotBytes: number,
    private readonly leastHoleBytes: number,
  ) {
    this.#given = fromBytes;
    this.#dataEnd = fromBytes;
  }

  *add(extent: BlockExtent): Generator<Segment, void, undefined> {
    if (extent.state === 'zero' || extent.lengthBytes === 0) return;
    const edge = extent.offsetBytes - (extent.offsetBytes % this.clusterSizeBytes);
    const isShort = this.#dataEnd > this.#given && edge - this.#dataEnd < this.leastHoleBytes;
    if (!isShort) yield* this.#holeUpTo(edge);
    const end = extent.offsetBytes + extent.lengthBytes;
    const past = end % this.clusterSizeBytes;
    this.#dataEnd = past === 0 ? end : Math.min(end - past + this.clusterSizeBytes, this.toBytes);
    while (this.#slotEnd() <= this.#dataEnd) yield this.#giveData(this.#slotEnd());
  }

  *end(): Generator<Segment, void, undefined> {
    yield* this.#holeUpTo(this.toBytes);
    if (this.#dataEnd > this.#given) yield this.#giveData(this.#dataEnd);
  }

  /** If whole clusters lie between the data so far and `edge`, then gives that data and the hole. */
  *#holeUpTo(edge: number): Generator<Segment, void, undefined> {
    if (edge <= this.#dataEnd) return;
    if (this.#dataEnd > this.#given) yield this.#giveData(this.#dataEnd);
    const offsetBytes = this.#given;
    this.#given = edge;
    this.#dataEnd = edge;
    yield { kind: 'zero', offsetBytes, lengthBytes: edge - offsetBytes };
  }

  #giveData(end: number): Segment {
    const offsetBytes = this.#given;
    this.#given = end;
    return { kind: 'data', offsetBytes, lengthBytes: end - offsetBytes };
  }

  /** The end of the slot-sized window that `#given` lies in. */
  #slotEnd(): number {
    return this.#given - (this.#given % this.slotBytes) + this.slotBytes;
  }
}
