// SPDX-License-Identifier: MIT
// A copy of the datastore that something is done to, the programs that run on it, and what was found to be wrong.

import { cpSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Bench, Running } from '../cli/bench.js';
import { digestsIn, type HarmWorld } from './harm-world.js';
import { type Judged, judge } from './judged-run.js';

export class Round {
  readonly findings: string[] = [];
  readonly root: string;
  readonly store: string;
  readonly cache: string;
  readonly world: HarmWorld;
  readonly #bench: Bench;
  #outs = 0;

  constructor(bench: Bench, world: HarmWorld, name: string) {
    this.#bench = bench;
    this.world = world;
    this.root = bench.path(name);
    this.store = join(this.root, 'store');
    this.cache = join(this.root, 'cache');
    mkdirSync(this.root);
    cpSync(world.store, this.store, { recursive: true });
    cpSync(world.cache, this.cache, { recursive: true });
  }

  find(words: readonly string[], fault: string, result?: Judged): void {
    const said = result && `\n    exit ${result.status}: ${result.text.slice(0, 600)}${result.stderr.slice(0, 1200)}`;
    this.findings.push(`${words.join(' ')}: ${fault}${said ?? ''}`);
  }

  start(words: readonly string[], program: 'vmar' | 'vma-restore' = 'vmar'): Running {
    const env = { VMAR_DATASTORE: this.store, VMAR_CACHE_DIR: this.cache };
    return this.#bench.start(words, { program, env });
  }

  async end(words: readonly string[], running: Running): Promise<Judged> {
    const result = await judge(running);
    for (const fault of result.faults) this.find(words, fault, result);
    return result;
  }

  async run(...words: readonly string[]): Promise<Judged> {
    return await this.end(words, this.start(words));
  }

  /** A path for something new. */
  out(): string {
    return join(this.root, `out${this.#outs++}`);
  }

  /** Restores; whether that worked. What is restored must be right. */
  async restore(backup: string, datastore = this.store): Promise<boolean> {
    const to = this.out();
    const words = ['--datastore', datastore, 'restore', backup, '--to', to];
    const result = await this.run(...words);
    if (result.status === 0) this.#compare(words, backup, to, result);
    rmSync(to, { recursive: true, force: true });
    return result.status === 0;
  }

  #compare(words: readonly string[], backup: string, to: string, result: Judged): void {
    const found = digestsIn(to);
    for (const [name, digest] of this.world.truth.get(backup) ?? []) {
      if (found.get(name) !== digest) this.find(words, `WRONG BYTES in ${name}`, result);
    }
  }

  remove(): void {
    rmSync(this.root, { recursive: true, force: true });
  }
}
