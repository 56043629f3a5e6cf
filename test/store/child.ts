// SPDX-License-Identifier: MIT
// Other processes to contend with.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';
import { onTestFinished } from 'vitest';

/** A Node process that runs a module's source, which may import `#vmar/…`, and talks in lines. */
export class Child {
  readonly #process: ChildProcess;
  readonly #lines: AsyncIterableIterator<string>;

  private constructor(process_: ChildProcess, lines: Interface) {
    this.#process = process_;
    this.#lines = lines[Symbol.asyncIterator]();
  }

  static start(source: string): Child {
    const child = spawn(process.execPath, ['--input-type=module', '--eval', source], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    onTestFinished(async () => {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGKILL');
        await once(child, 'exit');
      }
    });
    return new Child(child, createInterface({ input: child.stdout! }));
  }

  /** The next line it writes; fails if it ends first. */
  async line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error('the child ended without a word');
    return value;
  }

  say(line: string): void {
    this.#process.stdin!.write(`${line}\n`);
  }

  /** As a power cut is to the process: nothing of it runs any more. */
  async kill(): Promise<void> {
    const gone = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await gone;
  }

  /** Waits for its end; its exit status. */
  async end(): Promise<number | null> {
    if (this.#process.exitCode !== null) return this.#process.exitCode;
    const [status] = await once(this.#process, 'exit');
    return status;
  }
}
