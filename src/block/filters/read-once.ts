// SPDX-License-Identifier: MIT
// A device of which everything is read once, in any order: what was read is given up below, so that a snapshot takes no
// more space aside than what was changed and not read yet.
//
// Guarantee: a range is given up only after its content, or that it is zero, was handed out. What is known to be zero is
// answered from here from then on; what was read must not be read again.

import { Limiter } from '../../base/bounded-queue.js';
import { type Log, SILENT } from '../../base/log.js';
import type { BlockDevice, BlockExtent } from '../device.js';
import { DirtyBitmap, type DirtyRange } from '../dirty-bitmap.js';
import { checkRange } from '../range.js';
import { ReadOnlyDevice } from '../read-only-device.js';

/** Copy-before-write goes by these; a smaller range is not given up by itself. */
const GRANULE_BYTES = 65536;
const DISCARDS_IN_FLIGHT = 4;

export interface ReadOnceOptions {
  readonly log?: Log;
  /** Of shorter ranges it is not asked what they hold: they are called data. For many small ranges asking costs more. */
  readonly leastAskedBytes?: number;
  /** Called before the first request goes down. */
  readonly onUse?: () => void;
}

export class ReadOnceDevice extends ReadOnlyDevice {
  override readonly name: string;
  override readonly lengthBytes: number;
  override readonly alignmentBytes: number;
  readonly #below: BlockDevice;
  readonly #log: Log;
  readonly #leastAskedBytes: number;
  readonly #zero: DirtyBitmap;
  readonly #discards = new Limiter(DISCARDS_IN_FLIGHT);
  readonly #underWay = new Set<Promise<void>>();
  #onUse: (() => void) | undefined;
  /** The first discard failed: it may be that nothing can be given up. Then it is not tried again. */
  #keeps = false;
  #closed = false;

  constructor(below: BlockDevice, options: ReadOnceOptions = {}) {
    super();
    this.name = below.name;
    this.lengthBytes = below.lengthBytes;
    this.alignmentBytes = below.alignmentBytes;
    this.#below = below;
    this.#log = options.log ?? SILENT;
    this.#onUse = options.onUse;
    this.#leastAskedBytes = options.leastAskedBytes ?? 0;
    this.#zero = new DirtyBitmap(below.lengthBytes, GRANULE_BYTES);
  }

  override async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    checkRange(this, offsetBytes, into.byteLength);
    this.#use();
    const end = offsetBytes + into.byteLength;
    const reads: Promise<void>[] = [];
    for (let at = offsetBytes; at < end; ) {
      const zeroAt = this.#zero.nextDirty(at, end) ?? end;
      if (zeroAt > at) reads.push(this.#below.read(at, into.subarray(at - offsetBytes, zeroAt - offsetBytes)));
      const dataAt = zeroAt < end ? (this.#zero.nextClean(zeroAt, end) ?? end) : end;
      into.subarray(zeroAt - offsetBytes, dataAt - offsetBytes).fill(0);
      at = dataAt;
    }
    for (const outcome of await Promise.allSettled(reads)) if (outcome.status === 'rejected') throw outcome.reason;
    this.giveUp({ offsetBytes, lengthBytes: into.byteLength });
  }

  override async blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]> {
    checkRange(this, offsetBytes, lengthBytes);
    if (lengthBytes === 0) return [];
    this.#use();
    const end = offsetBytes + lengthBytes;
    const zeroAt = this.#zero.nextDirty(offsetBytes, end) ?? end;
    if (zeroAt === offsetBytes) {
      const dataAt = this.#zero.nextClean(offsetBytes, end) ?? end;
      return [{ offsetBytes, lengthBytes: dataAt - offsetBytes, state: 'zero' }];
    }
    if (lengthBytes < this.#leastAskedBytes) return [{ offsetBytes, lengthBytes, state: 'data' }];
    const extents = await this.#below.blockStatus(offsetBytes, zeroAt - offsetBytes);
    for (const extent of extents) {
      const inner = extent.state === 'zero' ? this.#granules(extent) : undefined;
      if (inner === undefined) continue;
      this.#zero.set(inner.offsetBytes, inner.lengthBytes);
      this.giveUp(inner);
    }
    return extents;
  }

  /** Will not be read: frees what it takes aside, soon. A range smaller than a granule stays. */
  giveUp(range: DirtyRange): void {
    const inner = this.#granules(range);
    if (inner === undefined || this.#keeps || this.#closed) return;
    const work = this.#discard(inner).finally(() => this.#underWay.delete(work));
    this.#underWay.add(work);
  }

  async #discard({ offsetBytes, lengthBytes }: DirtyRange): Promise<void> {
    await this.#discards.enter();
    try {
      if (!this.#keeps && !this.#closed) await this.#below.discard(offsetBytes, lengthBytes);
    } catch (error) {
      this.#keeps = true;
      if (!this.#closed) this.#log.debug(`${this.name}: what was read is not freed: ${String(error)}`);
    } finally {
      this.#discards.leave();
    }
  }

  #granules({ offsetBytes, lengthBytes }: DirtyRange): DirtyRange | undefined {
    const from = Math.ceil(offsetBytes / GRANULE_BYTES) * GRANULE_BYTES;
    const end = offsetBytes + lengthBytes;
    const to = end === this.lengthBytes ? end : end - (end % GRANULE_BYTES);
    return from < to ? { offsetBytes: from, lengthBytes: to - from } : undefined;
  }

  #use(): void {
    const onUse = this.#onUse;
    this.#onUse = undefined;
    onUse?.();
  }

  /** Closes what is below. */
  override async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#underWay);
    await this.#below.close();
  }
}
