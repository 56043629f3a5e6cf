// SPDX-License-Identifier: MIT
// A .vma file on its way into a sink. Its clusters may come in any order: they go to the sink as they come.
//
// Guarantees: nothing is given out before all that an extent promises was checked; the end of the file is checked before
// `copyTo` resolves, so a file that is cut off is never taken for a whole one. Memory does not grow with the file, but
// for two bits a cluster.

import { isVmstate, type VmaDevice } from '../../../formats/vma/header.js';
import {
  type MissingClusters,
  type VmaHandler,
  type VmaHeader,
  VmaReader,
  type VmaSummary,
} from '../../../formats/vma/reader.js';
import { BugError, InterruptedError } from '../../base/errors.js';
import type { ByteStream } from './byte-stream.js';

export type VmaEvent =
  | { readonly kind: 'zeros'; readonly device: number; readonly first: number; count: number }
  | {
      readonly kind: 'data';
      readonly device: number;
      readonly cluster: number;
      readonly mask: number;
      readonly blocks: Uint8Array;
    };

/** What takes the clusters. */
export interface VmaTarget {
  data(device: number, cluster: number, mask: number, blocks: Uint8Array): Promise<void>;
  zeros(device: number, first: number, count: number): Promise<void>;
  /** Blocks that it was given are not to be looked at any more once this has resolved. */
  settle?(): Promise<void>;
}

export { isVmstate, type VmaDevice, type VmaHeader, type VmaSummary };

/** The parser calls back at once; what takes clusters may have to wait: so they are kept for the time of one piece. */
class Events implements VmaHandler {
  found: VmaHeader | undefined;
  list: VmaEvent[] = [];
  piece: Uint8Array | undefined;

  header(header: VmaHeader): void {
    this.found = header;
  }

  cluster(device: number, cluster: number, mask: number, blocks: Uint8Array): void {
    if (mask !== 0) {
      // What lies in the piece itself stays as it is until the next one; anything else is the parser's.
      const kept = blocks.buffer === this.piece?.buffer ? blocks : Uint8Array.from(blocks);
      this.list.push({ kind: 'data', device, cluster, mask, blocks: kept });
      return;
    }
    const last = this.list.at(-1);
    if (last?.kind === 'zeros' && last.device === device && last.first + last.count === cluster) last.count++;
    else this.list.push({ kind: 'zeros', device, first: cluster, count: 1 });
  }
}

/** While the header is read, of which the parser holds what it needs. */
const PUSHED_BYTES = 1 << 16;

export class VmaInput {
  readonly header: VmaHeader;
  readonly #stream: ByteStream;
  readonly #reader: VmaReader;
  readonly #events: Events;
  /** Of the piece that held the end of the header. */
  #rest: Uint8Array;

  private constructor(header: VmaHeader, stream: ByteStream, reader: VmaReader, events: Events, rest: Uint8Array) {
    this.header = header;
    this.#stream = stream;
    this.#reader = reader;
    this.#events = events;
    this.#rest = rest;
  }

  /**
   * Reads up to the end of the header. The stream stays the caller's to close.
   * @throws DamageError if it is none, or not whole
   */
  static async open(stream: ByteStream): Promise<VmaInput> {
    const events = new Events();
    const reader = new VmaReader(events, { file: stream.name });
    for (;;) {
      const piece = await stream.next();
      if (piece === undefined) {
        reader.end();
        throw new BugError('an archive without a header has ended well');
      }
      for (let at = 0; at < piece.byteLength; at += PUSHED_BYTES) {
        const part = Uint8Array.from(piece.subarray(at, at + PUSHED_BYTES));
        events.piece = part;
        reader.push(part);
        if (events.found === undefined) continue;
        return new VmaInput(events.found, stream, reader, events, Uint8Array.from(piece.subarray(at + PUSHED_BYTES)));
      }
    }
  }

  /** Clusters that did not come so far, by device. */
  get missing(): readonly MissingClusters[] {
    return this.#reader.missing;
  }

  /** @throws DamageError, InterruptedError, and what the target throws */
  async copyTo(target: VmaTarget, signal?: AbortSignal): Promise<VmaSummary> {
    await this.#deliver(target);
    let piece: Uint8Array | undefined = this.#rest;
    this.#rest = new Uint8Array(0);
    for (; piece !== undefined; piece = await this.#stream.next()) {
      if (signal?.aborted) throw new InterruptedError();
      this.#events.piece = piece;
      this.#reader.push(piece);
      await this.#deliver(target);
    }
    if (signal?.aborted) throw new InterruptedError();
    return this.#reader.end();
  }

  async #deliver(target: VmaTarget): Promise<void> {
    const events = this.#events.list;
    this.#events.list = [];
    for (const event of events) {
      if (event.kind === 'data') await target.data(event.device, event.cluster, event.mask, event.blocks);
      else await target.zeros(event.device, event.first, event.count);
    }
    await target.settle?.();
  }
}
