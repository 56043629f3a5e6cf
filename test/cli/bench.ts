// SPDX-License-Identifier: MIT
// The real programs as child processes, in a directory of their own.

import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { scratchDirectory } from '../base/scratch.js';

/** Checked field by field. */
export type Json = ReturnType<typeof JSON.parse>;

export interface Finished {
  readonly status: number | null;
  readonly stdout: Buffer;
  readonly text: string;
  readonly stderr: string;
  /** The one document on standard output. */
  json(): Json;
}

export interface RunOptions {
  readonly program?: 'vmar' | 'vma-restore';
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly stdin?: number;
  readonly stdout?: number;
  readonly nodeArguments?: readonly string[];
  /** Root may read and write anything, unless this is taken away. */
  readonly minding?: 'permissions';
  /** A program that runs it. */
  readonly under?: readonly string[];
}

export interface Running {
  readonly child: ChildProcess;
  readonly finished: Promise<Finished>;
}

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

const OVERRIDES = '-dac_override,-dac_read_search';
const MINDING_PERMISSIONS =
  process.getuid?.() === 0 ? ['setpriv', `--bounding-set=${OVERRIDES}`, `--inh-caps=${OVERRIDES}`] : [];

export class Bench {
  readonly directory = scratchDirectory();

  path(...names: string[]): string {
    return join(this.directory, ...names);
  }

  get store(): string {
    return this.path('store');
  }

  start(words: readonly string[], options: RunOptions = {}): Running {
    const program = join(ROOT, 'dist/bundle/cli', `${options.program ?? 'vmar'}.js`);
    const { VMAR_DATASTORE: _, ...inherited } = process.env;
    const node = [...(options.under ?? []), process.execPath, ...(options.nodeArguments ?? [])];
    const [command, ...rest] = options.minding === undefined ? node : [...MINDING_PERMISSIONS, ...node];
    const child = spawn(command as string, [...rest, program, ...words], {
      cwd: this.directory,
      env: {
        ...inherited,
        HOME: this.path('home'),
        VMAR_CACHE_DIR: this.path('cache'),
        TZ: 'UTC',
        VMAR_DATASTORE: this.store,
        ...options.env,
      },
      stdio: [options.stdin ?? 'ignore', options.stdout ?? 'pipe', 'pipe'],
    });
    return { child, finished: collect(child) };
  }

  run(words: readonly string[], options: RunOptions = {}): Promise<Finished> {
    return this.start(words, options).finished;
  }

  /** Runs what must work, and gives its document. */
  async json(words: readonly string[], options: RunOptions = {}): Promise<Json> {
    const finished = await this.run(['--json', ...words], options);
    if (finished.status !== 0) throw new Error(`vmar ${words.join(' ')}: ${finished.text}${finished.stderr}`);
    return finished.json();
  }

  /** Runs what must fail, and gives its error. */
  async error(words: readonly string[], options: RunOptions = {}): Promise<Json> {
    const finished = await this.run(['--json', ...words], options);
    const { error, ...others } = finished.json();
    if (error === undefined) throw new Error(`vmar ${words.join(' ')} did not fail: ${JSON.stringify(others)}`);
    if (error.exit !== finished.status) throw new Error(`exit ${finished.status}, but the document says ${error.exit}`);
    return error;
  }
}

async function collect(child: ChildProcess): Promise<Finished> {
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout?.on('data', (bytes: Buffer) => out.push(bytes));
  child.stderr?.on('data', (bytes: Buffer) => err.push(bytes));
  const status = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  const stdout = Buffer.concat(out);
  const text = stdout.toString();
  const json = () => {
    if (!/^[^\n]+\n$/.test(text)) throw new Error(`not one line: ${text}\n${Buffer.concat(err)}`);
    return JSON.parse(text);
  };
  return { status, stdout, text, stderr: Buffer.concat(err).toString(), json };
}
