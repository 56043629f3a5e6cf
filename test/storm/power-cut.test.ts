// SPDX-License-Identifier: MIT
// The power goes while every kind of command works on a datastore: a real file system is shut down under them, so that what
// was not synced is gone, and mounted again. What a command said to have done is so, and nothing is damaged.
// VMAR_STORM_ROUNDS and VMAR_STORM_SEED as in storm.test.ts. Needs root, and loop devices.

import { spawnSync } from 'node:child_process';
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { anyCommand, backUp } from './commands.js';
import { settle } from './settle.js';
import { GUESTS, Sky } from './sky.js';

const { VMAR_STORM_ROUNDS, VMAR_STORM_SEED } = process.env;
const ROUNDS = Number(VMAR_STORM_ROUNDS ?? 1);
const IS_SHORT = VMAR_STORM_ROUNDS === undefined;
const SEED = Number(VMAR_STORM_SEED ?? Math.floor(Math.random() * 2 ** 31));
const LANES = IS_SHORT ? 3 : 5;
const KINDS = (IS_SHORT ? ['ext4'] : ['ext4', 'xfs']) as readonly ('ext4' | 'xfs')[];
const MIB = 1 << 20;

/** A disk in a file, at `here` of the storm. */
class Disk {
  readonly #image: string;
  readonly #place: string;

  constructor(place: string) {
    this.#place = place;
    this.#image = `${place}.disk`;
  }

  /** What went wrong, if anything. */
  make(kind: 'ext4' | 'xfs'): string | undefined {
    mkdirSync(this.#place);
    writeFileSync(this.#image, '');
    truncateSync(this.#image, (kind === 'xfs' ? 320 : 96) * MIB);
    const isNoTool = spawnSync('xfs_io', ['-V']).error?.message;
    const words = kind === 'xfs' ? ['-q', this.#image] : ['-q', '-m', '0', this.#image];
    return isNoTool ?? problemOf(`mkfs.${kind}`, ...words) ?? this.mount();
  }

  mount(): string | undefined {
    return problemOf('mount', '-o', 'loop', this.#image, this.#place);
  }

  /** Without writing back what is in memory, or after writing back its log alone. */
  cutPower(isLogWritten: boolean): void {
    const problem = problemOf('xfs_io', '-x', '-c', `shutdown${isLogWritten ? ' -f' : ''}`, this.#place);
    if (problem !== undefined) throw new Error(problem);
  }

  async unmount(): Promise<void> {
    // Threads of processes that were killed may still be at work in the kernel.
    while (problemOf('umount', this.#place) !== undefined) await delay(50);
  }
}

function problemOf(command: string, ...words: string[]): string | undefined {
  const { error, status, stderr } = spawnSync(command, words, { encoding: 'utf8' });
  return status === 0 ? undefined : (error?.message ?? `${command}: ${stderr.trim()}`);
}

describe.each(KINDS)('power cuts of %s', (kind) => {
  const sky = new Sky(SEED);
  const disk = new Disk(sky.bench.path('here'));
  const problem = disk.make(kind);
  if (problem !== undefined) console.warn(`\n!!! NOT TESTED: power cuts of ${kind} (${problem})\n`);
  else afterAll(() => disk.unmount());

  async function round(): Promise<void> {
    const lane = async (): Promise<void> => {
      while (!sky.isCut) await anyCommand(sky);
    };
    const lanes = Promise.all(Array.from({ length: LANES }, lane));
    await delay(sky.random.integer(500, 6000));
    sky.isCut = true;
    disk.cutPower(sky.random.oneIn(3));
    await lanes;
    await disk.unmount();
    expect(disk.mount()).toBeUndefined();
    sky.isCut = false;
    await settle(sky, 'here', IS_SHORT);
  }

  it.runIf(problem === undefined)(
    `cost nothing that was done, in ${ROUNDS} rounds, VMAR_STORM_SEED=${SEED}`,
    async () => {
      await sky.create();
      await backUp(sky, 'here', GUESTS[0]);
      for (let n = 0; n < ROUNDS && sky.findings.length === 0; n++) await round();
      console.info(`VMAR_STORM_SEED=${SEED}: ${JSON.stringify(Object.fromEntries([...sky.tally].sort()))}`);
      expect(sky.findings).toEqual([]);
    },
    300_000 + ROUNDS * 300_000,
  );
});
