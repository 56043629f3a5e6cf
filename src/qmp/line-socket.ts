// SPDX-License-Identifier: MIT
// A Unix socket on which lines come and go.

import { stat } from 'node:fs/promises';
import net from 'node:net';
import { REAL_CLOCK } from '../base/clock.js';
import { InterruptedError, systemErrorCode } from '../base/errors.js';
import { LineFault, LineSplitter } from './json-lines.js';
import { monitorBusy, notQmp, socketMissing, socketPathTooLong } from './qmp-errors.js';

export interface LineSocketEvents {
  /** One line, without its end. */
  readonly onLine: (line: Buffer) => void;
  /** Called once; nothing comes after it. */
  readonly onEnd: (why: string, cause?: unknown) => void;
  /** Sees bytes of a line before it has ended; may tell that it can be none of ours. */
  readonly onPartial?: (start: Uint8Array) => void;
}

export interface ConnectOptions {
  readonly timeoutMillis: number;
  readonly signal?: AbortSignal | undefined;
}

/** What a socket's address holds. */
const MOST_PATH_BYTES = 107;
/** Between attempts while the listener's queue is full. */
const RETRY_MILLIS = 50;

export class LineSocket {
  readonly #socket: net.Socket;
  readonly #events: LineSocketEvents;
  readonly #splitter = new LineSplitter();
  #ended = false;

  private constructor(socket: net.Socket, events: LineSocketEvents) {
    this.#socket = socket;
    this.#events = events;
    socket.on('data', (bytes: Buffer) => this.#received(bytes));
    socket.on('error', (error) => this.#end(error.message, error));
    socket.on('close', () => this.#end('it was closed from the other side'));
  }

  /**
   * @throws UsageError 'socket-path-too-long', FailedError 'qmp-missing' or 'not-qmp' (no socket at all), BusyError 'qmp-busy' when it has no room for one
   * more client until the time is over, InterruptedError
   */
  static async connect(path: string, events: LineSocketEvents, options: ConnectOptions): Promise<LineSocket> {
    await checkIsSocket(path);
    const end = REAL_CLOCK.monotonicMillis() + options.timeoutMillis;
    for (;;) {
      try {
        return new LineSocket(await connectOnce(path, options.signal), events);
      } catch (error) {
        if (systemErrorCode(error) !== 'EAGAIN')
          throw error instanceof InterruptedError ? error : socketMissing(path, error);
        if (REAL_CLOCK.monotonicMillis() > end) throw monitorBusy(path, options.timeoutMillis);
        await REAL_CLOCK.sleep(RETRY_MILLIS, options.signal);
      }
    }
  }

  write(bytes: string | Uint8Array): void {
    if (!this.#ended) this.#socket.write(bytes);
  }

  /** Ends it at once; `onEnd` is not called. */
  close(): void {
    this.#ended = true;
    this.#socket.destroy();
  }

  #received(bytes: Buffer): void {
    if (this.#ended) return;
    try {
      for (const line of this.#splitter.push(bytes)) {
        this.#events.onLine(line);
        if (this.#ended) return;
      }
      if (this.#events.onPartial) this.#events.onPartial(this.#splitter.held);
    } catch (error) {
      if (!(error instanceof LineFault)) throw error;
      this.#end(`it sent ${error.message}`);
    }
  }

  #end(why: string, cause?: unknown): void {
    if (this.#ended) return;
    this.close();
    this.#events.onEnd(why, cause);
  }
}

/** Connecting to a file of another kind is refused as if nobody listened; that would send the user astray. */
async function checkIsSocket(path: string): Promise<void> {
  // It would be cut off without a word, and may then be another's.
  if (Buffer.byteLength(path) > MOST_PATH_BYTES) throw socketPathTooLong(path, MOST_PATH_BYTES);
  try {
    const found = await stat(path);
    if (!found.isSocket()) throw notQmp(path, found.isDirectory() ? 'a directory' : 'a file that is no socket');
  } catch (error) {
    throw systemErrorCode(error) !== undefined && error instanceof Error && 'errno' in error
      ? socketMissing(path, error)
      : error;
  }
}

function connectOnce(path: string, signal: AbortSignal | undefined): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(new InterruptedError());
    const socket = net.connect(path);
    const onAbort = () => {
      socket.destroy();
      reject(new InterruptedError());
    };
    const done = () => {
      signal?.removeEventListener('abort', onAbort);
      socket.removeAllListeners();
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    socket.once('connect', () => {
      done();
      resolve(socket);
    });
    socket.once('error', (error) => {
      done();
      reject(error);
    });
  });
}
