// SPDX-License-Identifier: MIT
// SIGINT, SIGTERM and SIGHUP: the first cancels what can be cancelled, the second ends the program at once.

import type { Output } from './output.js';

/** Signals so close to each other are one. */
const SAME_MILLIS = 250;

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export class Interrupts {
  readonly #process: NodeJS.Process;
  readonly #output: Output;
  readonly #program: string;
  readonly #end: () => never;
  #cancel: (() => void) | undefined;
  /** When the first signal came; undefined before. */
  #interruptedMillis: number | undefined;
  /** The end of standard input, too, cancels what can be cancelled. */
  endsWithInput = false;

  /** @param end says that the program was interrupted, and ends it at once */
  constructor(process: NodeJS.Process, output: Output, program: string, end: () => never) {
    this.#process = process;
    this.#output = output;
    this.#program = program;
    this.#end = end;
  }

  listen(): void {
    for (const signal of SIGNALS) this.#process.on(signal, () => this.#onSignal());
  }

  /**
   * Does work that clears up after itself when cancelled. A signal at any other time ends the program at once, as that
   * is safe whatever it does.
   */
  async during<Result>(cancel: () => void, work: () => Promise<Result>): Promise<Result> {
    this.#cancel = cancel;
    const ignoreInput = this.endsWithInput ? this.atInputEnd(() => this.#onOrphaned()) : undefined;
    try {
      return await work();
    } finally {
      this.#cancel = undefined;
      ignoreInput?.();
    }
  }

  /**
   * Calls once standard input is closed, as it is when the program that started this one and held the other end is no
   * more, however it ended. Gives what ends the listening.
   */
  atInputEnd(action: () => void): () => void {
    const { stdin } = this.#process;
    const events = ['end', 'close', 'error'] as const;
    for (const event of events) stdin.once(event, action);
    stdin.resume();
    return () => {
      for (const event of events) stdin.removeListener(event, action);
      stdin.on('error', () => {});
      stdin.destroy();
    };
  }

  /** What is under way already is left to itself. */
  #onOrphaned(): void {
    if (this.#interruptedMillis === undefined && this.#cancel !== undefined) this.#onSignal();
  }

  #onSignal(): void {
    const nowMillis = performance.now();
    // timeout(1) and other wrappers pass a signal on that the kernel has given us already.
    if (this.#interruptedMillis !== undefined && nowMillis - this.#interruptedMillis < SAME_MILLIS) return;
    if (this.#interruptedMillis !== undefined || this.#cancel === undefined) this.#end();
    this.#interruptedMillis = nowMillis;
    this.#output.notice(`${this.#program}: stopping; once more ends it at once`);
    this.#cancel();
  }
}
