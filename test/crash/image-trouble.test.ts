// SPDX-License-Identifier: MIT
// Images that change under the reader, go away or cannot be read, through the command line: the backup fails or is
// right, and the datastore is as it was.

import { spawnSync } from 'node:child_process';
import { readdirSync, renameSync, rmSync, truncateSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { seededRandom } from '../base/random.js';
import { Bench, type Running } from '../cli/bench.js';
import { CLUSTER, makeImage, patch, untilLocked } from '../cli/images.js';
import { fileHolds } from './changing-image.js';

const MIB = 1 << 20;
const content = Buffer.from(seededRandom(1).bytes(6 * MIB + 5000));
const bench = new Bench();

const image = (name: string): string => makeImage(bench.path(name), content.length, [{ at: 0, bytes: content }]);
const countOf = async (guest: string): Promise<number> =>
  (await bench.json(['list'])).backups.filter(({ backup }: { backup: string }) => backup.startsWith(`vm/${guest}/`))
    .length;

async function expectAsBefore(guest: string, backups: number): Promise<void> {
  expect(await countOf(guest)).toBe(backups);
  expect(await bench.json(['verify'])).toMatchObject({ ok: true });
  expect(readdirSync(bench.path('store', 'tmp'))).toEqual([]);
  if (backups === 0) return;
  await bench.json(['restore', guest, '--disk', 'd=restored.raw']);
  expect(fileHolds(bench.path('restored.raw'), content)).toBe(true);
  rmSync(bench.path('restored.raw'));
}

/** Resolves once a backup has read something. */
async function untilPacking({ child }: Running): Promise<void> {
  const isPacking = () =>
    readdirSync(bench.path('store', 'tmp'), { recursive: true }).some((name) => /vmar$/.test(String(name)));
  while (child.exitCode === null && !isPacking()) await delay(10);
}

beforeAll(async () => {
  await bench.json(['init', bench.store]);
});

describe('an image that is', () => {
  const slow = ['--json', '--speed', '2MiB'];

  it.each([
    ['cut', 'image-shrank', (path: string) => truncateSync(path, 3 * MIB)],
    ['made longer', 'image-grew', (path: string) => truncateSync(path, 9 * MIB)],
  ] as const)('%s during its second backup ends it, and the first is there', async (guest, code, change) => {
    const id = guest.replace(' ', '-');
    const path = image(`${id}.raw`);
    await bench.json(['backup', id, '--disk', `d=${path}`]);
    patch(path, 0, seededRandom(2).bytes(6 * MIB));
    const running = bench.start(['backup', ...slow, id, '--disk', `d=${path}`]);
    await untilPacking(running);
    change(path);
    const { status, json } = await running.finished;
    expect(status).toBe(1);
    expect(json().error).toMatchObject({ exit: 1, code, object: path });
    await expectAsBefore(id, 1);
  });

  it.each([
    ['removed', (path: string) => rmSync(path)],
    ['replaced', (path: string) => renameSync(makeImage(`${path}.new`, 2 * CLUSTER), path)],
  ] as const)('%s during its backup is backed up as it was', async (id, change) => {
    const path = image(`${id}.raw`);
    const running = bench.start(['backup', ...slow, id, '--disk', `d=${path}`]);
    await untilLocked(path, running);
    change(path);
    const { status, stderr } = await running.finished;
    expect(status, stderr).toBe(0);
    await expectAsBefore(id, 1);
  });
});

/** A loop device over a file that was cut since: reading what is gone fails with EIO. Undefined where that cannot be. */
function failingDevice(): string | undefined {
  const path = image('failing.raw');
  const { status, stdout, stderr, error } = spawnSync('losetup', ['-f', '--show', path], { encoding: 'utf8' });
  if (status === 0) return stdout.trim();
  console.warn(`\n!!! NOT TESTED: a device with read errors (${error?.message ?? stderr.trim()})\n`);
  return undefined;
}

describe('a device with read errors', () => {
  const device = failingDevice();

  it.runIf(device !== undefined)('ends the backup, names the place, and costs no earlier backup', async () => {
    try {
      await bench.json(['backup', 'device', '--disk', `d=${device}`]);
      const wholeSectors = content.length - (content.length % 512);
      expect((await bench.json(['show', 'device'])).disks[0].size).toBe(wholeSectors);
      truncateSync(bench.path('failing.raw'), 3 * MIB);
      const error = await bench.error(['backup', 'device', '--disk', `d=${device}`]);
      expect(error).toMatchObject({ exit: 1, code: 'read-failed', object: device });
      expect(error.message).toContain('EIO');
      expect(error.offset).toBeGreaterThanOrEqual(2 * MIB);
      expect(await countOf('device')).toBe(1);
      expect(await bench.json(['verify'])).toMatchObject({ ok: true });
      await bench.json(['restore', 'device', '--disk', 'd=device.raw']);
      expect(fileHolds(bench.path('device.raw'), content.subarray(0, wholeSectors))).toBe(true);
    } finally {
      spawnSync('losetup', ['-d', device!]);
    }
  });
});
