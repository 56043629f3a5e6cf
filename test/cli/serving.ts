// SPDX-License-Identifier: MIT
// A `vmar serve` that runs beside the test.

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { Bench, Finished, Json, Running } from './bench.js';

const execFileAsync = promisify(execFile);

export interface Serving extends Running {
  /** What it printed when it began to listen. */
  readonly document: Json;
  /** The URI of an export, by default the first. */
  uri(name?: string): string;
  /** What it wrote to standard error so far. */
  stderr(): string;
  stop(signal?: NodeJS.Signals): Promise<Finished>;
}

/** Starts it and waits until it listens. */
export async function serve(bench: Bench, words: readonly string[], globals: readonly string[] = []): Promise<Serving> {
  const running = bench.start([...globals, '--json', 'serve', ...words]);
  const { child, finished } = running;
  let [out, err] = ['', ''];
  child.stderr?.on('data', (bytes: Buffer) => {
    err += bytes.toString();
  });
  const line = await new Promise<string>((resolve, reject) => {
    child.stdout?.on('data', (bytes: Buffer) => {
      out += bytes.toString();
      if (out.includes('\n')) resolve(out);
    });
    void finished.then(() => reject(new Error(`it ended before it listened: ${out}${err}`)), reject);
  });
  const document = JSON.parse(line);
  if (document.error !== undefined) throw new Error(line);
  return {
    ...{ ...running, document },
    stderr: () => err,
    uri: (name) => {
      const found = document.exports.find((entry: Json) => name === undefined || entry.name === name);
      return found.uris[0];
    },
    stop: async (signal = 'SIGTERM') => {
      child.kill(signal);
      return await finished;
    },
  };
}

/** Runs another program, and gives its output; rejects if it fails. */
export async function tool(command: string, ...words: readonly string[]): Promise<string> {
  const { stdout } = await execFileAsync(command, words, { maxBuffer: 64 << 20 });
  return stdout;
}

/** Runs another program, and gives all that it said, also if it failed. */
export async function trial(command: string, ...words: readonly string[]): Promise<string> {
  return await new Promise((resolve) => {
    execFile(command, words, (_, stdout, stderr) => resolve(`${stdout}${stderr}`));
  });
}
