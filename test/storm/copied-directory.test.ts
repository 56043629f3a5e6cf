// SPDX-License-Identifier: MIT
// A datastore that other programs copy while it is at work, as docs/LOCKING.md says: what arrives is whole. And the two,
// which have one UUID and so one chunk index of the host, never take what only the other has for their own.

import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { seededRandom } from '../base/random.js';
import { haveTool } from '../base/scratch.js';
import { Bench, type Json } from '../cli/bench.js';

const bench = new Bench();
const random = seededRandom(5);
const FIRST_SECONDS = 1_760_000_000;
const contents = new Map<string, Buffer>();
let nights = 0;

async function backUp(store: string, guest: string): Promise<string> {
  const disk = Buffer.from(random.bytes(200_000));
  const image = bench.path(`image-${nights}.raw`);
  writeFileSync(image, disk);
  const words = ['backup', guest, '--disk', `d=${image}`, '--time', `${FIRST_SECONDS + nights++}`];
  const { backup } = await bench.json(['--datastore', store, ...words]);
  contents.set(backup, disk);
  return backup;
}

/** The backups that are there, each of which restores to what it was. */
async function expectWhole(store: string): Promise<string[]> {
  expect(await bench.json(['--datastore', store, 'verify'])).toMatchObject({ ok: true });
  const ids: string[] = (await bench.json(['--datastore', store, 'list'])).backups.map(({ backup }: Json) => backup);
  for (const id of ids) {
    await bench.json(['--datastore', store, 'restore', id, '--disk', 'd=restored.raw']);
    expect(readFileSync(bench.path('restored.raw')).equals(contents.get(id)!), `${id} in ${store}`).toBe(true);
    rmSync(bench.path('restored.raw'));
  }
  return ids;
}

beforeAll(async () => {
  await bench.json(['init', 'store']);
});

describe('a datastore', () => {
  const isThere = haveTool('flock', 'a datastore that other programs copy while it is in use');

  it.runIf(isThere)('that is copied manifests first, with gc held up, while backups go on, arrives whole', async () => {
    const before = [await backUp('store', '100'), await backUp('store', '101')];
    await bench.json(['forget', before.pop()!]);
    mkdirSync(bench.path('copied'));
    // Halfway it waits until told to go on: what happens then is between manifests and packs.
    const script =
      'cp -a store/manifests copied/ && echo half && read go && cp -a store/datastore.pb store/state store/packs copied/';
    const copying = spawn('flock', ['store/locks/gc.lock', 'sh', '-c', script], { cwd: bench.directory });
    const ended = new Promise((resolve) => copying.on('close', resolve));
    await new Promise((resolve) => copying.stdout.once('data', resolve));
    expect(await bench.error(['gc'])).toMatchObject({ exit: 5, code: 'gc-busy' });
    const later = await backUp('store', '100');
    copying.stdin.end('\n');
    expect(await ended).toBe(0);
    expect((await bench.json(['gc'])).deleted.packs).toBeGreaterThan(0);
    expect(await expectWhole('copied')).toEqual(before);
    expect(await expectWhole('store')).toEqual([...before, later]);
  });

  it('and its twin, with one index for both, each rest on their own packs alone', async () => {
    cpSync(bench.path('store'), bench.path('twin'), { recursive: true });
    const made = await backUp('store', '200');
    // The index knows these chunks, of packs that the twin has not.
    const words = ['backup', '300', '--disk', `d=${bench.path(`image-${nights - 1}.raw`)}`, '--time', '1770000000'];
    const { backup, disks } = await bench.json(['--datastore', 'twin', ...words]);
    expect(disks[0].new).toBe(200_000);
    contents.set(backup, contents.get(made)!);
    await bench.json(['--datastore', 'store', 'forget', made]);
    await bench.json(['--datastore', 'store', 'gc']);
    await Promise.all([backUp('store', '400'), backUp('twin', '400')]);
    expect(await expectWhole('twin')).toContain(backup);
    expect(await expectWhole('store')).not.toContain(made);
    const refused = await bench.error(['--datastore', 'twin', 'copy', '--all', '--to', bench.path('store')]);
    expect(refused.message).toContain('both are one datastore');
  });
});
