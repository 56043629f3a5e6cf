// SPDX-License-Identifier: MIT
// An export of an NBD server as a block device.
//
// Guarantees: requests keep to the server's block sizes, whatever the caller asks for; what is called zero was called so
// by the server; `flush` rejects where a connection was lost after writes that it would have to answer for.

import { FailedError } from '../../base/errors.js';
import type { BlockDevice, BlockExtent } from '../../block/device.js';
import { checkRange, checkWritable } from '../../block/range.js';
import { COMMAND, COMMAND_FLAG, TRANSMISSION_FLAG } from '../protocol/constants.js';
import type { ConnectionPool } from './connection-pool.js';
import type { Answer } from './exchange.js';
import { allocationExtents, type DirtyExtent, dirtyExtents } from './status-extents.js';
import { UnalignedWrites } from './unaligned-writes.js';

export type { DirtyExtent } from './status-extents.js';

/** Large enough that requests cost little, small enough that a server reads one piece while it sends another. */
const PIECE_BYTES = 256 << 10;
/** One status request asks for so much; offsets stay multiples of any block size. */
const STATUS_PIECE_BYTES = 2 ** 31;
/** Once a server tells about a whole piece at once, so many are asked for together. */
const STATUS_PIECES = 16;
/** Zeros and discards carry no data. */
const ZERO_PIECE_BYTES = 2 ** 30;
const ZERO_PIECES_IN_FLIGHT = 8;
const ZEROS = new Uint8Array(PIECE_BYTES);
/** Whoever tells about less than this, so many times in a row, is not asked any more: the worst is assumed. */
const LEAST_PROGRESS_BYTES = 65536;
const MOST_TINY_ANSWERS = 256;

export class NbdDevice implements BlockDevice {
  readonly lengthBytes: number;
  readonly alignmentBytes: number;
  readonly #pool: ConnectionPool;
  readonly #pieceBytes: number;
  readonly #unaligned: UnalignedWrites | undefined;
  #tinyAnswers = 0;
  /** Writes were answered since the last flush, and not made durable one by one. */
  #unflushed = false;
  /** The pool's count of lost connections when all that was written was last known to be safe. */
  #safeLosses: number;
  #flushError: FailedError | undefined;

  constructor(
    readonly name: string,
    readonly readOnly: boolean,
    pool: ConnectionPool,
  ) {
    const { sizeBytes, blockSize } = pool.terms;
    this.#pool = pool;
    this.lengthBytes = sizeBytes;
    this.alignmentBytes = blockSize.leastBytes;
    const most = Math.min(PIECE_BYTES, blockSize.mostBytes);
    this.#pieceBytes = most - (most % blockSize.leastBytes);
    this.#safeLosses = pool.lossCount;
    if (blockSize.leastBytes > 1) this.#unaligned = new UnalignedWrites(this, blockSize.leastBytes);
  }

  /** How many connections there are now. */
  get connectionCount(): number {
    return this.#pool.connectionCount;
  }

  /** Whether the server tells what is zero. */
  get tellsHoles(): boolean {
    return this.#pool.terms.contexts.allocation !== undefined;
  }

  async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    checkRange(this, offsetBytes, into.byteLength);
    const unit = this.alignmentBytes;
    const end = offsetBytes + into.byteLength;
    const from = Math.ceil(offsetBytes / unit) * unit;
    // The end of the device may lie inside a block.
    const to = end === this.lengthBytes ? end : end - (end % unit);
    if (from > to) {
      await this.#readAround(offsetBytes, into);
      return;
    }
    const reads: Promise<unknown>[] = [];
    if (offsetBytes < from) reads.push(this.#readAround(offsetBytes, into.subarray(0, from - offsetBytes)));
    this.#startPieces(from, to, (at, lengthBytes) => {
      const piece = into.subarray(at - offsetBytes, at - offsetBytes + lengthBytes);
      reads.push(this.#pool.call({ type: COMMAND.read, flags: 0, offsetBytes: at, lengthBytes, into: piece }));
    });
    if (to < end) reads.push(this.#readAround(to, into.subarray(to - offsetBytes)));
    await allSettled(reads);
  }

  /** A range that begins or ends inside a block: the whole blocks are read, the surplus is dropped. */
  async #readAround(offsetBytes: number, into: Uint8Array): Promise<void> {
    const unit = this.alignmentBytes;
    const from = offsetBytes - (offsetBytes % unit);
    const to = Math.min(this.lengthBytes, Math.ceil((offsetBytes + into.byteLength) / unit) * unit);
    const whole = new Uint8Array(to - from);
    await this.read(from, whole);
    into.set(whole.subarray(offsetBytes - from, offsetBytes - from + into.byteLength));
  }

  #startPieces(from: number, to: number, start: (at: number, lengthBytes: number) => void): void {
    for (let at = from; at < to; ) {
      const lengthBytes = Math.min(this.#pieceBytes, to - at);
      start(at, lengthBytes);
      at += lengthBytes;
    }
  }

  async write(offsetBytes: number, from: Uint8Array): Promise<void> {
    checkWritable(this);
    checkRange(this, offsetBytes, from.byteLength);
    if (from.byteLength === 0) return;
    if (this.#unaligned === undefined) await this.#writeAligned(offsetBytes, from);
    else await this.#unaligned.write(offsetBytes, from, (at, bytes) => this.#writeAligned(at, bytes));
  }

  async #writeAligned(offsetBytes: number, from: Uint8Array): Promise<void> {
    const writes: Promise<unknown>[] = [];
    this.#unflushed = true;
    this.#startPieces(offsetBytes, offsetBytes + from.byteLength, (at, lengthBytes) => {
      const payload = from.subarray(at - offsetBytes, at - offsetBytes + lengthBytes);
      writes.push(this.#pool.call({ type: COMMAND.write, flags: 0, offsetBytes: at, lengthBytes, payload }));
    });
    await allSettled(writes);
  }

  async writeZeroes(
    offsetBytes: number,
    lengthBytes: number,
    options: { keepAllocated?: boolean } = {},
  ): Promise<void> {
    checkWritable(this);
    checkRange(this, offsetBytes, lengthBytes);
    if (lengthBytes === 0) return;
    const unit = this.alignmentBytes;
    const end = offsetBytes + lengthBytes;
    const from = Math.ceil(offsetBytes / unit) * unit;
    const to = end === this.lengthBytes ? end : end - (end % unit);
    const flags = options.keepAllocated === true ? COMMAND_FLAG.noHole : 0;
    if (from >= to) {
      await this.write(offsetBytes, ZEROS.subarray(0, lengthBytes));
      return;
    }
    if (offsetBytes < from) await this.write(offsetBytes, ZEROS.subarray(0, from - offsetBytes));
    if (to < end) await this.write(to, ZEROS.subarray(0, end - to));
    if (!this.#can(TRANSMISSION_FLAG.sendWriteZeroes)) {
      for (let at = from; at < to; at += ZEROS.byteLength) {
        await this.write(at, ZEROS.subarray(0, Math.min(ZEROS.byteLength, to - at)));
      }
      return;
    }
    const zero = (): Promise<void> => this.#inPieces(COMMAND.writeZeroes, flags, from, to);
    await (this.#unaligned === undefined ? zero() : this.#unaligned.alone(from, to - from, zero));
  }

  async discard(offsetBytes: number, lengthBytes: number): Promise<void> {
    checkWritable(this);
    checkRange(this, offsetBytes, lengthBytes);
    const unit = this.alignmentBytes;
    const end = offsetBytes + lengthBytes;
    const from = Math.ceil(offsetBytes / unit) * unit;
    const to = end === this.lengthBytes ? end : end - (end % unit);
    if (from >= to || !this.#can(TRANSMISSION_FLAG.sendTrim)) return;
    const trim = (): Promise<void> => this.#inPieces(COMMAND.trim, 0, from, to);
    await (this.#unaligned === undefined ? trim() : this.#unaligned.alone(from, to - from, trim));
  }

  async #inPieces(type: number, flags: number, from: number, to: number): Promise<void> {
    this.#unflushed = true;
    for (let at = from; at < to; ) {
      const calls: Promise<unknown>[] = [];
      for (; at < to && calls.length < ZERO_PIECES_IN_FLIGHT; at += ZERO_PIECE_BYTES) {
        const lengthBytes = Math.min(ZERO_PIECE_BYTES, to - at);
        calls.push(this.#pool.call({ type, flags, offsetBytes: at, lengthBytes }));
      }
      await allSettled(calls);
    }
  }

  #can(flag: number): boolean {
    return (this.#pool.terms.flags & flag) !== 0;
  }

  /** Rejects from then on when the server may have forgotten something: only writing all of it again helps. */
  async flush(): Promise<void> {
    if (this.#flushError !== undefined) throw this.#flushError;
    if (this.readOnly || !this.#unflushed) return;
    this.#unflushed = false;
    try {
      if (this.#can(TRANSMISSION_FLAG.sendFlush)) {
        await this.#pool.call({ type: COMMAND.flush, flags: 0, offsetBytes: 0, lengthBytes: 0 });
      }
      if (this.#pool.lossCount !== this.#safeLosses) throw mayBeForgotten(this.name);
    } catch (error) {
      this.#unflushed = true;
      if (error instanceof FailedError) this.#flushError = error;
      throw error;
    }
  }

  async blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]> {
    checkRange(this, offsetBytes, lengthBytes);
    if (lengthBytes === 0) return [];
    const { contexts } = this.#pool.terms;
    if (contexts.allocation === undefined || this.#tinyAnswers >= MOST_TINY_ANSWERS) {
      return [{ offsetBytes, lengthBytes, state: 'data' }];
    }
    return await this.#status(offsetBytes, lengthBytes, (answer, at) => allocationExtents(answer, contexts, at));
  }

  /**
   * As `blockStatus`, of the dirty bitmap that was named when the device was opened.
   * Rejects with FailedError 'no-bitmap' where none was.
   */
  async dirtyStatus(offsetBytes: number, lengthBytes: number): Promise<DirtyExtent[]> {
    checkRange(this, offsetBytes, lengthBytes);
    const { contexts } = this.#pool.terms;
    if (contexts.bitmap === undefined) {
      throw new FailedError('no-bitmap', 'the device was opened without a dirty bitmap', { object: this.name });
    }
    if (lengthBytes === 0) return [];
    if (this.#tinyAnswers >= MOST_TINY_ANSWERS) return [{ offsetBytes, lengthBytes, dirty: true }];
    return await this.#status(offsetBytes, lengthBytes, (answer, at) => dirtyExtents(answer, contexts, at));
  }

  /** Asks for the first piece and, if all of that is told, for more at once; as far as the answers are whole. */
  async #status<Extent extends { readonly offsetBytes: number; readonly lengthBytes: number }>(
    offsetBytes: number,
    lengthBytes: number,
    decode: (answer: Answer, at: number) => Extent[],
  ): Promise<Extent[]> {
    const unit = this.alignmentBytes;
    const end = offsetBytes + lengthBytes;
    const from = offsetBytes - (offsetBytes % unit);
    const to = Math.min(this.lengthBytes, Math.ceil(end / unit) * unit);
    const extents: Extent[] = [];
    let told = from;
    for (let pieces = 1, asked = from; told === asked && asked < to; pieces = STATUS_PIECES) {
      const answers: { at: number; answer: Promise<Extent[]> }[] = [];
      for (; answers.length < pieces && asked < to; asked = Math.min(to, asked + STATUS_PIECE_BYTES)) {
        const at = asked;
        const piece = { offsetBytes: at, lengthBytes: Math.min(STATUS_PIECE_BYTES, to - at) };
        const answer = this.#pool.call({ type: COMMAND.blockStatus, flags: 0, ...piece });
        answers.push({ at, answer: answer.then((found) => decode(found, at)) });
      }
      await allSettled(answers.map(({ answer }) => answer));
      for (const { at, answer } of answers) {
        if (at !== told) break;
        for (const extent of await answer) {
          extents.push(extent);
          told = extent.offsetBytes + extent.lengthBytes;
        }
      }
    }
    this.#tinyAnswers = told < Math.min(to, from + LEAST_PROGRESS_BYTES) ? this.#tinyAnswers + 1 : 0;
    return extents.flatMap((extent) => cut(extent, offsetBytes, end));
  }

  async close(): Promise<void> {
    this.#pool.close();
  }
}

/** The part of an extent inside a range; nothing if there is none. */
function cut<Extent extends { readonly offsetBytes: number; readonly lengthBytes: number }>(
  extent: Extent,
  from: number,
  to: number,
): Extent[] {
  const start = Math.max(from, extent.offsetBytes);
  const end = Math.min(to, extent.offsetBytes + extent.lengthBytes);
  return start < end ? [{ ...extent, offsetBytes: start, lengthBytes: end - start }] : [];
}

/** Waits for all, as each may still use the caller's memory; then rejects as the first that failed. */
async function allSettled(calls: readonly Promise<unknown>[]): Promise<void> {
  if (calls.length === 1) {
    await calls[0];
    return;
  }
  for (const outcome of await Promise.allSettled(calls)) {
    if (outcome.status === 'rejected') throw outcome.reason;
  }
}

function mayBeForgotten(name: string): FailedError {
  return new FailedError('writes-may-be-lost', 'the NBD server was away after writes that were not flushed yet', {
    object: name,
    advice: 'It may have forgotten them: write everything again.',
  });
}
