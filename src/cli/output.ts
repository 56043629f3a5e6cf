// SPDX-License-Identifier: MIT
// Everything that is written to the terminal goes through here. Standard output has results, and nothing else: text, or
// with --json one document. Standard error has progress, notices and errors.

import { systemErrorCode } from '../base/errors.js';
import { createPaint, type Paint } from './paint.js';

export interface OutputFlags {
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
}

/** What stands on the last line of the terminal, and makes room for other lines. */
export interface LiveLine {
  before(): void;
  after(): void;
  /** Takes it away for good. */
  end(): void;
}

export class Output {
  readonly #process: NodeJS.Process;
  #json = false;
  #quiet = false;
  #verbose = false;
  #failed = false;
  #hasDocument = false;
  /** Whether errors of standard output, and of standard error, are listened to. */
  #isOutputHeard = false;
  #isErrorHeard = false;
  /** Set while there is one. */
  live: LiveLine | undefined;

  constructor(process: NodeJS.Process) {
    this.#process = process;
  }

  configure(flags: OutputFlags): void {
    this.#json = flags.json === true;
    this.#quiet = flags.quiet === true;
    this.#verbose = flags.verbose === true;
  }

  get json(): boolean {
    return this.#json;
  }

  get quiet(): boolean {
    return this.#quiet;
  }

  /** True once a document was printed: there is to be no second. */
  get hasDocument(): boolean {
    return this.#hasDocument;
  }

  /** True once standard output took no more, for another reason than that nobody reads it. */
  get hasFailed(): boolean {
    return this.#failed;
  }

  /** Colours for results. */
  get paint(): Paint {
    return createPaint(this.#json ? undefined : this.#process.stdout, this.#process.env);
  }

  /** What the user asked to see: the document with --json, else the text. */
  result(document: () => unknown, text: () => string): void {
    if (this.#json) this.document(document());
    else this.#write(text());
  }

  /** What was done, for a command that does something: silent with --quiet. */
  summary(document: () => unknown, text: () => string): void {
    if (this.#json || !this.#quiet) this.result(document, text);
  }

  document(value: unknown): void {
    this.#hasDocument = true;
    this.#write(JSON.stringify(value));
  }

  /** Worth knowing; silent with --quiet. */
  notice(text: string): void {
    if (!this.#quiet) this.error(text);
  }

  debug(text: string): void {
    if (this.#verbose) this.error(text);
  }

  error(text: string): void {
    const { stderr } = this.#process;
    // Nobody to tell: no reason to end a backup that runs. Listeners of others do not count: those of worker threads go away.
    if (!this.#isErrorHeard) stderr.on('error', () => undefined);
    this.#isErrorHeard = true;
    this.live?.before();
    stderr.write(`${text}\n`);
    this.live?.after();
  }

  /** The terminal on standard error for a progress bar, or undefined where there is none, or one that moves no cursor. */
  get progressTerminal(): NodeJS.WriteStream | undefined {
    const { stderr, env } = this.#process;
    return stderr.isTTY === true && env.TERM !== 'dumb' ? stderr : undefined;
  }

  /** A result that is not text of ours. */
  bytes(content: Uint8Array): void {
    this.#put(content);
  }

  #write(text: string): void {
    if (text !== '') this.#put(`${text}\n`);
  }

  #put(content: string | Uint8Array): void {
    const { stdout } = this.#process;
    if (!this.#isOutputHeard) stdout.on('error', (error) => this.#onError(error));
    this.#isOutputHeard = true;
    // Both may be the same terminal: what was written over the bar's line would go with the bar.
    this.live?.before();
    stdout.write(content);
    this.live?.after();
  }

  /** A reader that has seen enough, such as head, is no failure. */
  #onError(error: unknown): void {
    if (systemErrorCode(error) === 'EPIPE' || this.#failed) return;
    this.#failed = true;
    this.#process.exitCode = this.#process.exitCode || 1;
    this.error(`vmar: standard output cannot be written: ${error instanceof Error ? error.message : String(error)}`);
  }
}
