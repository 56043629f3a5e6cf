// SPDX-License-Identifier: MIT
// A clock that was ahead, or was set back: no backup replaces another or comes before one that was made earlier.

import { beforeAll, describe, expect, it } from 'vitest';
import { Bench } from './bench.js';
import { makeImage, noise, patch } from './images.js';

const bench = new Bench();
let image: string;

beforeAll(async () => {
  await bench.json(['init', bench.store]);
  image = makeImage(bench.path('a.raw'), 262144, [{ at: 0, bytes: noise(4) }]);
});

const backUp = (...words: string[]) => bench.run(['--json', 'backup', '100', '--disk', `d=${image}`, ...words]);

describe('a guest whose latest backup is of the future', () => {
  it('gets later ones all the same, each after the other, with a warning', async () => {
    // As on a night on which the clock was two years ahead.
    await backUp('--time', String(Date.UTC(2028, 0, 1) / 1000));
    patch(image, 0, noise());
    const second = await backUp();
    expect(second.json()).toMatchObject({
      backup: 'vm/100/2028-01-01T00:00:01Z',
      disks: [{ new: 65536, unchanged: 196608 }],
    });
    expect(second.stderr).toMatch(/warning: the clock says .*, but vm\/100\/2028-01-01T00:00:00Z was made before/);
    patch(image, 65536, noise());
    // Compared with the one before it, and with no other.
    expect((await backUp()).json()).toMatchObject({
      backup: 'vm/100/2028-01-01T00:00:02Z',
      disks: [{ new: 65536, unchanged: 196608 }],
    });
    expect(await bench.json(['show', '100/latest'])).toMatchObject({
      backup: 'vm/100/2028-01-01T00:00:02Z',
      sequence: 3,
    });
  });

  it('is backed up as of a time that is given, and of no other', async () => {
    const given = await backUp('--time', String(Date.UTC(2026, 0, 1) / 1000));
    expect(given.json().backup).toBe('vm/100/2026-01-01T00:00:00Z');
    expect(given.stderr).not.toContain('clock');
    expect((await backUp()).json().backup).toBe('vm/100/2028-01-01T00:00:03Z');
    for (const time of ['-1', '253402300800']) {
      expect(await bench.error(['backup', '100', '--disk', `d=${image}`, `--time=${time}`])).toMatchObject({ exit: 2 });
    }
  });

  it('is told when there is no later time', async () => {
    await bench.json(['backup', '101', '--disk', `d=${image}`, '--time', '253402300799']);
    const error = await bench.error(['backup', '101', '--disk', `d=${image}`]);
    expect(error).toMatchObject({ code: 'no-later-time', exit: 1, object: 'vm/101/9999-12-31T23:59:59Z' });
    expect((await bench.json(['list', '101'])).backups).toHaveLength(1);
  });
});

it('backups within one second get seconds of their own, without a warning', async () => {
  const made: string[] = [];
  for (let n = 0; n < 3; n++) {
    const finished = await bench.run(['--json', 'backup', '102', '--disk', `d=${image}`]);
    expect(finished.stderr).toBe('');
    made.push(finished.json().backup);
  }
  expect(made.toSorted()).toEqual(made);
  expect(new Set(made).size).toBe(3);
});
