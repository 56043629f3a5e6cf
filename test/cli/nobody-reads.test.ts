// SPDX-License-Identifier: MIT
// A command whose output nobody reads any more does its work: a backup is no less a backup.

import { expect, it } from 'vitest';
import { Bench } from './bench.js';
import { makeImage, noise } from './images.js';

it.each(['--json', '--verbose'])('a backup goes on where nobody reads what it says (%s)', async (flag) => {
  const bench = new Bench();
  await bench.json(['init', bench.store]);
  makeImage(bench.path('a.raw'), 6 * 65536, [{ at: 0, bytes: noise(6) }]);
  // So slow that it says in the middle how far it is.
  const words = [flag, 'backup', '100', '--disk', 'a=a.raw', '--speed', '128KiB'];
  const { child, finished } = bench.start(words);
  child.stdout?.destroy();
  child.stderr?.destroy();
  expect((await finished).status).toBe(0);
  expect((await bench.json(['list'])).backups).toHaveLength(1);
});
