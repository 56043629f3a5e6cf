// SPDX-License-Identifier: MIT
// Both ends of the guardian: a process of its own that does what is done while a guest stands still, so that no end of
// the backup, not even kill -9, leaves a guest paused or frozen.
//
// The plan goes in as one line, the report comes back as one line; between them, where the plan wants it, a line that says
// that all is ready, and one that says go. As soon as the pipe to the guardian closes, it takes back what it did, continues
// and thaws, and ends; but a plan that had its go is carried out.

import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { BusyError, FailedError, InterruptedError } from '../base/errors.js';
import { count, flag, maybe, member, record, text } from './decode.js';
import { LineSplitter, parseLine } from './json-lines.js';
import { runWindow } from './window.js';
import type { WindowPlan, WindowReport } from './window-plan.js';

/** In the guardian's process. Resolves when it may end. */
export async function guard(input: Readable, output: Writable, stop: AbortController): Promise<void> {
  const splitter = new LineSplitter();
  let go = (): void => {};
  const onGo = new Promise<void>((resolve) => {
    go = resolve;
  });
  const plan = await new Promise<WindowPlan | undefined>((resolve) => {
    let lines = 0;
    input.on('data', (bytes: Buffer) => {
      for (const line of splitter.push(bytes)) {
        // It comes from our own program.
        if (lines++ === 0) resolve(parseLine(line) as WindowPlan);
        else go();
      }
    });
    const end = () => {
      stop.abort();
      resolve(undefined);
    };
    input.on('end', end).on('error', end).on('close', end);
  });
  if (plan === undefined) return;
  output.on('error', () => {});
  const askForGo = async () => {
    output.write(`${JSON.stringify({ ready: true })}\n`);
    await onGo;
  };
  const { report, thawed } = await runWindow(plan, stop.signal, askForGo);
  output.write(`${JSON.stringify(report)}\n`);
  await thawed;
}

/**
 * A guardian that waits for its plan. It takes a moment to start: whoever will need one starts it early, and has to end it.
 */
export class Guardian {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: GuardianLines;

  private constructor(script: string) {
    // In a session of its own: what ends our process group does not end it.
    this.#child = spawn(process.execPath, [script], { detached: true, stdio: ['pipe', 'pipe', 'ignore'] });
    this.#lines = new GuardianLines(this.#child);
  }

  static start(script: string): Guardian {
    return new Guardian(script);
  }

  /**
   * Has it do a plan; to be called once.
   * @param onReady for a plan that waits for the go: called when all is ready. The go is given when it resolves; from then
   * on `signal` is of no effect
   * @throws what kept the steps from being done, FailedError 'guardian-lost', InterruptedError; then none is in effect, as
   * far as could be seen to
   */
  async run(
    plan: WindowPlan,
    signal?: AbortSignal,
    onReady: () => Promise<void> = async () => {},
  ): Promise<WindowReport> {
    if (signal?.aborted) throw new InterruptedError();
    const { stdin } = this.#child;
    let isOn = false;
    const onAbort = () => {
      if (!isOn) stdin.end();
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      stdin.write(`${JSON.stringify(plan)}\n`);
      let said = parseLine(await this.#lines.next());
      if (plan.waitsForGo === true && 'ready' in record(said, 'the line')) {
        await onReady();
        isOn = signal?.aborted !== true;
        if (isOn) stdin.write('go\n');
        said = parseLine(await this.#lines.next());
      }
      const report = decodeReport(said);
      if (!isOn && signal?.aborted) throw new InterruptedError();
      if (report.error !== undefined) throw asError(report.error);
      return report;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** It may live on for as long as a thaw takes. */
  end(): void {
    this.#child.stdin.end();
    this.#child.unref();
    this.#child.stdout.destroy();
  }
}

/** Starts a guardian, has it do the plan, and ends it; as `Guardian.run`. */
export async function runGuarded(
  script: string,
  plan: WindowPlan,
  signal?: AbortSignal,
  onReady?: () => Promise<void>,
): Promise<WindowReport> {
  if (signal?.aborted) throw new InterruptedError();
  const guardian = Guardian.start(script);
  try {
    return await guardian.run(plan, signal, onReady);
  } finally {
    guardian.end();
  }
}

/** What a guardian says, line by line. */
class GuardianLines {
  readonly #lines: Buffer[] = [];
  #failure: Error | undefined;
  #wake: () => void = () => {};

  constructor(child: ChildProcessByStdio<Writable, Readable, null>) {
    const splitter = new LineSplitter();
    child.stdin.on('error', () => {});
    child.stdout.on('data', (bytes: Buffer) => {
      this.#lines.push(...splitter.push(bytes));
      this.#wake();
    });
    child.on('error', (error) => this.#end(error.message));
    child.on('close', (status, killed) => this.#end(`it ended with ${killed ?? `status ${status}`}`));
  }

  #end(why: string): void {
    this.#failure ??= guardianLost(why);
    this.#wake();
  }

  /** @throws FailedError 'guardian-lost' */
  async next(): Promise<Buffer> {
    for (;;) {
      const line = this.#lines.shift();
      if (line !== undefined) return line;
      if (this.#failure !== undefined) throw this.#failure;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

function decodeReport(value: unknown): WindowReport {
  const report = record(value, 'the report');
  const error = maybe(report, 'error', record, '');
  const notFrozen = maybe(report, 'notFrozen', text, '');
  return {
    ...(error === undefined
      ? {}
      : {
          error: {
            code: member(error, 'code', text, ''),
            message: member(error, 'message', text, ''),
            object: member(error, 'object', text, ''),
            ...about(maybe(error, 'disk', text, '')),
          },
        }),
    ...(notFrozen === undefined ? {} : { notFrozen }),
    frozen: member(report, 'frozen', flag, ''),
    pausedMicros: member(report, 'pausedMicros', count, ''),
    momentMillis: member(report, 'momentMillis', count, ''),
  };
}

function about(disk: string | undefined): { readonly disk?: string } {
  return disk === undefined ? {} : { disk };
}

function asError({ code, message, object, disk }: NonNullable<WindowReport['error']>): Error {
  if (code === 'interrupted') return new InterruptedError();
  if (code === 'qmp-busy') return new BusyError(code, message, { object });
  if (disk === undefined) return new FailedError(code, message, { object });
  return new FailedError('disk-not-possible', `disk ${disk} cannot be backed up while the guest runs: ${message}`, {
    object,
    advice: `Leave it out with --exclude ${disk}; back up its image while the guest is off.`,
  });
}

function guardianLost(why: string): FailedError {
  return new FailedError('guardian-lost', `the process that watches over the guest was lost: ${why}`, {
    advice: 'Check that the guest runs; the next backup of it clears up.',
  });
}
