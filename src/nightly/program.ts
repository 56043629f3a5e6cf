// SPDX-License-Identifier: MIT
// Runs a program: a hook, a notification, or vmar itself for one guest. Each runs in a process group of its own, so that
// Ctrl-C on the terminal reaches it only through us, once; and so that a time-out ends whatever it has started.
//
// Guarantee: the promise settles soon after the program has ended or was killed, also where what it started lives on
// and keeps its output open. Where a whole group is told to end, none of it is left then.

import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { LONGEST_DELAY_MILLIS } from '../base/clock.js';
import { OutputLines } from './output-lines.js';

export interface ProgramRun {
  readonly words: readonly string[];
  readonly env: Environment;
  /** What it reads on standard input; nothing by default. */
  readonly input?: string;
  /** Its standard input ends when it has ended, or when we are no more. */
  readonly keepsInputOpen?: boolean;
  readonly timeoutMillis?: number;
  /** Told to end (SIGTERM) when this aborts; what it does then is waited for. */
  readonly signal?: AbortSignal;
  /** At the end of the time: kill the whole group at once. Otherwise SIGTERM to the program, and time to clear up. */
  readonly killsGroup: boolean;
  /** A line on standard error, and of standard output too where that is not collected. */
  readonly onLine?: (line: string) => void;
  /** Keep so many bytes of standard output. By default its lines go to `onLine`. */
  readonly mostOutputBytes?: number;
}

export type Environment = Readonly<Record<string, string | undefined>>;

export interface ProgramEnd {
  /** Undefined where a signal ended it, or it never began. */
  readonly status: number | undefined;
  readonly signal: string | undefined;
  readonly timedOut: boolean;
  /** Why it never began. */
  readonly problem: string | undefined;
  readonly output: string;
  readonly lastLine: string;
}

/** A group that was told to end is killed after so long. */
const GROUP_GRACE_MILLIS = 2000;
/** A backup that takes its filters out of a guest may need a while. It is then killed alone: its guardians must live. */
const PROGRAM_GRACE_MILLIS = 120_000;
/** How often it is looked whether all of a group have ended that were told to. */
const LOOK_MILLIS = 20;
/** What was killed may take a moment; what nobody reaps is there for ever. */
const MOST_DYING_MILLIS = 1000;
/** Output that is still open this long after the end is not waited for. */
const OUTPUT_GRACE_MILLIS = 1000;

/** Never rejects. */
export function runProgram(run: ProgramRun): Promise<ProgramEnd> {
  return new Promise((resolve) => {
    const [file = '', ...args] = run.words;
    const output: Buffer[] = [];
    let outputBytes = 0;
    let lastLine = '';
    let timedOut = false;
    const onLine = (line: string): void => {
      if (line.trim() !== '') lastLine = line;
      run.onLine?.(line);
    };
    const ended = (end: Pick<ProgramEnd, 'status' | 'signal' | 'problem'>): void => {
      stop.end(() => resolve({ ...end, timedOut, output: Buffer.concat(output).toString('utf8'), lastLine }));
    };
    let child: ChildProcess;
    const stop = new Stopping(
      run,
      () => child,
      () => (timedOut = true),
    );
    try {
      child = spawn(file, args, { env: { ...run.env }, detached: true, stdio: ['pipe', 'pipe', 'pipe'] });
    } catch (error) {
      ended({ status: undefined, signal: undefined, problem: textOf(error) });
      return;
    }
    const { stdin, stdout, stderr } = child;
    // A program need not read what it is given.
    stdin?.on('error', () => undefined);
    if (run.keepsInputOpen !== true) stdin?.end(run.input ?? '');
    readLines(stderr, onLine);
    if (run.mostOutputBytes === undefined) readLines(stdout, onLine);
    else {
      stdout?.on('data', (bytes: Buffer) => {
        outputBytes += bytes.byteLength;
        if (outputBytes <= (run.mostOutputBytes ?? 0)) output.push(bytes);
      });
    }
    child.once('error', (error) => ended({ status: undefined, signal: undefined, problem: textOf(error) }));
    child.once('exit', () => {
      stdin?.destroy();
      setTimeout(() => {
        stdout?.destroy();
        stderr?.destroy();
      }, OUTPUT_GRACE_MILLIS).unref();
    });
    child.once('close', (status, signal) => {
      ended({ status: status ?? undefined, signal: signal ?? undefined, problem: undefined });
    });
    stop.begin();
  });
}

function readLines(stream: Readable | null, onLine: (line: string) => void): void {
  const lines = new OutputLines(onLine);
  stream?.on('data', (bytes: Buffer) => lines.add(bytes));
  stream?.once('end', () => lines.end());
}

/** Tells a program to end, when its time is over or the caller says so, and sees to it that it does. */
class Stopping {
  readonly #run: ProgramRun;
  readonly #child: () => ChildProcess | undefined;
  readonly #onTimeout: () => void;
  readonly #timers: NodeJS.Timeout[] = [];
  #isTold = false;
  #killedMillis = Number.POSITIVE_INFINITY;
  readonly #onAbort = (): void => this.#tell(false);

  constructor(run: ProgramRun, child: () => ChildProcess | undefined, onTimeout: () => void) {
    this.#run = run;
    this.#child = child;
    this.#onTimeout = onTimeout;
  }

  begin(): void {
    const { timeoutMillis, signal } = this.#run;
    if (timeoutMillis !== undefined) this.#after(timeoutMillis, () => this.#tell(true));
    if (signal?.aborted === true) this.#onAbort();
    else signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** The program has ended. What it started and was told to end as well has its time for that, and is killed then. */
  end(done: () => void): void {
    this.#run.signal?.removeEventListener('abort', this.#onAbort);
    const isGroupTold = this.#isTold && this.#run.killsGroup;
    const isAwaited = performance.now() < this.#killedMillis + MOST_DYING_MILLIS;
    if (isGroupTold && isAwaited && this.#send(0, true)) {
      setTimeout(() => this.end(done), LOOK_MILLIS);
      return;
    }
    for (const timer of this.#timers) clearTimeout(timer);
    done();
  }

  #after(millis: number, action: () => void): void {
    this.#timers.push(setTimeout(action, Math.min(millis, LONGEST_DELAY_MILLIS)));
  }

  #tell(isTimeout: boolean): void {
    if (this.#isTold) return;
    this.#isTold = true;
    if (isTimeout) this.#onTimeout();
    const { killsGroup } = this.#run;
    this.#send('SIGTERM', killsGroup);
    this.#after(killsGroup ? GROUP_GRACE_MILLIS : PROGRAM_GRACE_MILLIS, () => {
      this.#killedMillis = performance.now();
      this.#send('SIGKILL', killsGroup);
    });
  }

  /** False if there is nobody any more. */
  #send(signal: NodeJS.Signals | 0, toGroup: boolean): boolean {
    const pid = this.#child()?.pid;
    if (pid === undefined) return false;
    try {
      return process.kill(toGroup ? -pid : pid, signal);
    } catch {
      return false;
    }
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
