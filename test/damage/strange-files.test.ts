// SPDX-License-Identifier: MIT
// What is no file where one should be: told as damage, never waited for, never read without end.

import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { DamageError } from '#vmar/src/base/errors.js';
import { readSmallFile } from '#vmar/src/store/small-file.js';
import { Bench } from '../cli/bench.js';
import { mixedImage } from '../cli/images.js';
import { runJudged } from '../harm/judged-run.js';

const bench = new Bench();
const inStore = (path: string): string => bench.path('store', path);

beforeAll(async () => {
  await bench.json(['init', bench.path('whole')]);
  const image = mixedImage(bench.path('a.raw'));
  await bench.json([
    '--datastore',
    bench.path('whole'),
    'backup',
    '100',
    '--disk',
    `d=${image}`,
    '--time',
    '1793494800',
  ]);
  for (const path of ['packs', 'state', 'locks']) mkdirSync(bench.path('whole', path), { recursive: true });
});

beforeEach(() => {
  rmSync(bench.store, { recursive: true, force: true });
  cpSync(bench.path('whole'), bench.store, { recursive: true });
});

const MAKERS: Readonly<Record<string, (path: string) => void>> = {
  'a FIFO': (path) => void execFileSync('mkfifo', [path]),
  'a link to /dev/zero': (path) => symlinkSync('/dev/zero', path),
  'a directory': (path) => void mkdirSync(path),
  'a link that leads nowhere': (path) => symlinkSync('/nowhere/at/all', path),
  'a link to itself': (path) => symlinkSync(path, path),
};

async function damageOf(...words: string[]) {
  const { status, faults, json } = await runJudged(bench, ['--json', ...words]);
  expect({ status, faults }).toEqual({ status: 3, faults: [] });
  return json();
}

it.each(Object.keys(MAKERS).filter((kind) => kind !== 'a FIFO'))('%s is no small file', async (kind) => {
  const path = bench.path('small');
  MAKERS[kind]!(path);
  await expect(readSmallFile(path, 1000)).rejects.toThrow(DamageError);
  rmSync(path, { recursive: true });
});

describe.each(Object.keys(MAKERS))('%s', (kind) => {
  const make = MAKERS[kind]!;

  it.each(['datastore.pb', 'state/fossils'])('is damage in the place of %s', async (path) => {
    rmSync(inStore(path), { force: true });
    make(inStore(path));
    const { damage } = await damageOf('verify', '--quick', '--workers', '0');
    expect(damage).toMatchObject([{ file: path, offset: 0 }]);
  });
});

describe('a FIFO that nobody writes to', () => {
  const fifo = bench.path('fifo');

  beforeAll(() => void execFileSync('mkfifo', [fifo]));

  it('is no configuration file', async () => {
    const ran = await runJudged(bench, ['--json', 'backup', '100', '--disk', 'd=a.raw', '--config', fifo]);
    expect(ran).toMatchObject({ status: 1, faults: [] });
    expect(ran.json().error).toMatchObject({ code: 'not-a-file', object: fifo });
  });

  it('is no notes of an archive, which is imported all the same', async () => {
    const name = bench.path('vzdump-qemu-107-2026_11_21-02_00_00');
    await bench.json(['backup', '107', '--disk', 'd=a.raw', '--output', `${name}.vma`]);
    symlinkSync(fifo, `${name}.vma.notes`);
    symlinkSync('/dev/zero', `${name}.log`);
    const { status, faults, stderr } = await runJudged(bench, ['import', `${name}.vma`]);
    expect({ status, faults }).toEqual({ status: 0, faults: [] });
    expect(stderr.match(/(notes|log) is not kept: it is not a file/g)).toHaveLength(2);
  });
});
