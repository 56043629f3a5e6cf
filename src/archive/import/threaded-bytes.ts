// SPDX-License-Identifier: MIT
// A file or pipe that another thread reads and decompresses, so that this one is free to hand out what comes. The pieces lie
// in memory that both see; there are few of them, which bounds what is ahead.

import { Worker } from 'node:worker_threads';
import { FailedError, InterruptedError } from '../../base/errors.js';
import { decodeError, type ErrorMessage } from '../../pipeline/error-message.js';
import type { ByteStream, ReadingOptions } from './byte-stream.js';

export const PIECE_BYTES = 1 << 20;
const PIECES = 6;

export interface ThreadSettings {
  readonly fd: number;
  readonly name: string;
  readonly memory: readonly SharedArrayBuffer[];
}

/** To the thread: a piece may be filled again, or that nobody wants more. */
export type ToThread = { readonly free: number } | 'close';

/** From the thread; `readBytes` is what it has read of the file since it last told. */
export type FromThread =
  | { readonly kind: 'piece'; readonly index: number; readonly lengthBytes: number; readonly readBytes: number }
  | { readonly kind: 'end'; readonly readBytes: number }
  | { readonly kind: 'error'; readonly error: ErrorMessage };

type Arrival = { readonly index: number; readonly lengthBytes: number } | 'end' | { readonly error: unknown };

export class ThreadedBytes implements ByteStream {
  readonly name: string;
  readonly #worker: Worker;
  readonly #pieces: readonly Buffer[];
  readonly #onRead: ((bytes: number) => void) | undefined;
  readonly #exited: Promise<void>;
  readonly #arrived: Arrival[] = [];
  readonly #signal: AbortSignal | undefined;
  /** Before all that has arrived. */
  readonly #interrupt = (): void => {
    this.#arrived.unshift({ error: new InterruptedError() });
    this.#wake?.();
  };
  #wake: (() => void) | undefined;
  #given: number | undefined;

  /** The descriptor stays the caller's, and must not be closed before this is; but of a pipe or socket it is taken. */
  constructor(fd: number, name: string, options: ReadingOptions = {}) {
    const memory = Array.from({ length: PIECES }, () => new SharedArrayBuffer(PIECE_BYTES));
    const workerData: ThreadSettings = { fd, name, memory };
    this.name = name;
    this.#pieces = memory.map((piece) => Buffer.from(piece));
    this.#onRead = options.onRead;
    this.#signal = options.signal;
    if (this.#signal?.aborted) this.#interrupt();
    this.#signal?.addEventListener('abort', this.#interrupt, { once: true });
    this.#worker = new Worker(new URL('./decompress-worker.js', import.meta.url), { workerData, execArgv: [] });
    this.#worker.on('message', (message: FromThread) => this.#take(message));
    this.#worker.on('error', (cause) => this.#put({ error: death(String(cause), cause) }));
    this.#exited = new Promise((resolve) => {
      this.#worker.on('exit', (status) => {
        this.#put({ error: death(`it exited with ${status}`) });
        resolve();
      });
    });
  }

  async next(): Promise<Uint8Array | undefined> {
    if (this.#given !== undefined) this.#tell({ free: this.#given });
    this.#given = undefined;
    while (this.#arrived.length === 0) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    // What ends it stays there, for whoever asks again.
    const arrival = this.#arrived[0] as Arrival;
    if (arrival === 'end') return undefined;
    if ('error' in arrival) throw arrival.error;
    this.#arrived.shift();
    this.#given = arrival.index;
    return this.#pieces[arrival.index]?.subarray(0, arrival.lengthBytes);
  }

  #take(message: FromThread): void {
    if (message.kind === 'error') {
      this.#put({ error: decodeError(message.error) });
      return;
    }
    this.#onRead?.(message.readBytes);
    this.#put(message.kind === 'end' ? 'end' : message);
  }

  #put(arrival: Arrival): void {
    this.#arrived.push(arrival);
    this.#wake?.();
  }

  #tell(message: ToThread): void {
    this.#worker.postMessage(message);
  }

  async close(): Promise<void> {
    // The signal may be that of many streams, one after another.
    this.#signal?.removeEventListener('abort', this.#interrupt);
    this.#tell('close');
    await this.#exited;
  }
}

function death(why: string, cause?: unknown): FailedError {
  return new FailedError('worker-died', `the thread that decompresses died: ${why}`, { cause });
}
