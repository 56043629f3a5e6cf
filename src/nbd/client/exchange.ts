// SPDX-License-Identifier: MIT
// One request and what has come of its answer.

import type { FailedError } from '../../base/errors.js';
import { CHUNK, COMMAND, STATUS_EXTENT_BYTES } from '../protocol/constants.js';
import { brokenProtocol, requestFailed } from './client-errors.js';
import { Coverage } from './coverage.js';
import type { Terms } from './negotiate.js';

/** What the device wants of a server. All of these may be sent twice: nothing else comes of it. */
export interface Call {
  readonly type: number;
  readonly flags: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** Of a read: as long as the request. */
  readonly into?: Uint8Array;
  /** Of a write: as long as the request. */
  readonly payload?: Uint8Array;
}

/** Neighbours with equal flags are one. */
export interface StatusRun {
  lengthBytes: number;
  readonly flags: number;
}

export interface Answer {
  /** By the id of the metadata context. */
  readonly runs: ReadonlyMap<number, readonly StatusRun[]>;
}

/** Runs of one answer that are kept; the rest is asked for again. */
const MOST_RUNS = 65536;
/** A chunk for every sector, and some: more are not sent by anybody who means well. */
const BYTES_OF_SMALLEST_CHUNK = 512;
const SPARE_CHUNKS = 64;

/** The answer to a call as it comes in. Every method throws what is wrong with the server, naming it. */
export class Exchange implements Answer {
  readonly runs = new Map<number, StatusRun[]>();
  readonly #coverage: Coverage;
  #error: { readonly number: number; readonly message: string } | undefined;
  #chunks = 0;

  constructor(
    readonly call: Call,
    private readonly uri: string,
    private readonly terms: Terms,
  ) {
    this.#coverage = new Coverage(call.into?.byteLength ?? 0);
  }

  get isRead(): boolean {
    return this.call.type === COMMAND.read;
  }

  /** Counts a chunk, so that an answer has an end. */
  countChunk(): void {
    this.#chunks++;
    const most = SPARE_CHUNKS + (this.isRead ? this.call.lengthBytes / BYTES_OF_SMALLEST_CHUNK : 0);
    if (this.#chunks > most) throw brokenProtocol(this.uri, 'it does not stop answering a request');
  }

  /** Where the data of a range go. */
  place(offsetBytes: number, lengthBytes: number): Uint8Array {
    const { into } = this.call;
    const from = offsetBytes - this.call.offsetBytes;
    if (into === undefined || !this.#coverage.add(from, lengthBytes)) {
      throw brokenProtocol(this.uri, 'it sends data that were not asked for, or twice');
    }
    return into.subarray(from, from + lengthBytes);
  }

  /** The payload of a BLOCK_STATUS chunk. */
  addStatus(payload: Buffer): void {
    const isWhole = payload.length >= 4 + STATUS_EXTENT_BYTES && (payload.length - 4) % STATUS_EXTENT_BYTES === 0;
    if (this.call.type !== COMMAND.blockStatus || !isWhole) {
      throw brokenProtocol(this.uri, `a block status of ${payload.length} bytes`);
    }
    const id = payload.readUInt32BE(0);
    if (!Object.values(this.terms.contexts).includes(id) || this.runs.has(id)) {
      throw brokenProtocol(this.uri, 'a block status of a context that was not agreed on, or twice');
    }
    this.runs.set(id, this.#parseRuns(payload));
  }

  #parseRuns(payload: Buffer): StatusRun[] {
    const runs: StatusRun[] = [];
    let leftBytes = this.call.lengthBytes;
    for (let at = 4; at < payload.length && leftBytes > 0; at += STATUS_EXTENT_BYTES) {
      const extentBytes = payload.readUInt32BE(at);
      const flags = payload.readUInt32BE(at + 4);
      if (extentBytes === 0) throw brokenProtocol(this.uri, 'an empty extent in a block status');
      const last = runs.at(-1);
      const lengthBytes = Math.min(extentBytes, leftBytes);
      leftBytes -= lengthBytes;
      if (last?.flags === flags) last.lengthBytes += lengthBytes;
      else if (runs.length === MOST_RUNS) break;
      else runs.push({ lengthBytes, flags });
    }
    return runs;
  }

  /** An error of the server; the first counts. */
  fail(number: number, message: string): void {
    if (number === 0) throw brokenProtocol(this.uri, 'an error that is none');
    this.#error ??= { number, message };
  }

  /** The answer is whole: why the request failed, if it did. */
  end(): FailedError | undefined {
    if (this.#error !== undefined) {
      return requestFailed(this.uri, doing(this.call), this.call, this.#error.number, this.#error.message);
    }
    if (this.isRead && !this.#coverage.isComplete) {
      throw brokenProtocol(this.uri, 'it leaves out part of the data that were asked for');
    }
    if (this.call.type === COMMAND.blockStatus) {
      const missing = Object.values(this.terms.contexts).some((id) => !this.runs.has(id));
      if (missing) throw brokenProtocol(this.uri, 'it leaves out the block status that was asked for');
    }
    return undefined;
  }

  /** The number of the first error, undefined if there was none. */
  get errorNumber(): number | undefined {
    return this.#error?.number;
  }
}

/** Types that make sense in the answer to any request. */
export function isChunkFor(call: Call, type: number): boolean {
  if (type === CHUNK.offsetData || type === CHUNK.offsetHole) return call.type === COMMAND.read;
  if (type === CHUNK.blockStatus) return call.type === COMMAND.blockStatus;
  return type === CHUNK.none;
}

function doing({ type }: Call): Parameters<typeof requestFailed>[1] {
  switch (type) {
    case COMMAND.read:
      return 'reading';
    case COMMAND.flush:
      return 'flushing';
    case COMMAND.blockStatus:
      return 'asking for the block status';
    default:
      return 'writing';
  }
}
