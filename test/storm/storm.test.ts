// SPDX-License-Identifier: MIT
// Every kind of command at once on two datastores, by two hosts whose clocks are hours apart, in all weathers: any of them
// is killed, interrupted or stopped for a while, caches are removed and spoilt under it. No backup that was made and not
// removed is lost, changed or damaged; nothing comes back; nothing hangs; what the dead left goes. VMAR_STORM_ROUNDS=20
// makes a long campaign of it, VMAR_STORM_SEED repeats its decisions.

import { expect, it } from 'vitest';
import { anyCommand, backUp } from './commands.js';
import { packsOnDisk, quiet, settle } from './settle.js';
import { GUESTS, Sky, STORES } from './sky.js';

const { VMAR_STORM_ROUNDS, VMAR_STORM_SEED } = process.env;
const ROUNDS = Number(VMAR_STORM_ROUNDS ?? 1);
const IS_SHORT = VMAR_STORM_ROUNDS === undefined;
const SEED = Number(VMAR_STORM_SEED ?? Math.floor(Math.random() * 2 ** 31));
const LANES = IS_SHORT ? 3 : 6;
const STEPS = IS_SHORT ? 2 : 5;

it(
  `a storm of ${ROUNDS} rounds, VMAR_STORM_SEED=${SEED}`,
  async () => {
    const sky = new Sky(SEED);
    await sky.create();
    for (const guest of GUESTS.slice(0, IS_SHORT ? 1 : 3)) await backUp(sky, 'here', guest);
    for (let round = 0; round < ROUNDS && sky.findings.length === 0; round++) {
      const lane = async (): Promise<void> => {
        for (let step = 0; step < STEPS; step++) await anyCommand(sky);
      };
      await Promise.all(Array.from({ length: LANES }, lane));
      for (const store of STORES) await settle(sky, store, IS_SHORT);
    }
    console.info(`VMAR_STORM_SEED=${SEED}: ${JSON.stringify(Object.fromEntries([...sky.tally].sort()))}`);
    expect(sky.findings).toEqual([]);
    if (IS_SHORT) return;
    for (const store of STORES) {
      const ids = sky.shelves[store].possible();
      await quiet(sky, store, 'protect', '--off', ...ids);
      await quiet(sky, store, 'forget', ...ids);
      await quiet(sky, store, 'gc');
      expect(packsOnDisk(sky, store)).toEqual({ packs: 0, bytes: 0 });
    }
    expect(sky.findings).toEqual([]);
  },
  300_000 + ROUNDS * 300_000,
);
