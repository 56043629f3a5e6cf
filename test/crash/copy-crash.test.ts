// SPDX-License-Identifier: MIT
// A copy that is killed goes on where it stood; a destination that is full or goes away ends it with a clear error, and
// leaves nothing half done.

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { seededRandom } from '../base/random.js';
import { Bench } from '../cli/bench.js';
import { makeImage } from '../cli/images.js';
import { mountSmallDisk } from './small-disk.js';

const MIB = 1 << 20;
const bench = new Bench();
const destination = bench.path('destination');
const SEED = Number(process.env.VMAR_TEST_SEED ?? Date.now() % 2 ** 32);
const random = seededRandom(SEED);
/** More than two packs of data. */
const IMAGE_MIB = 300;

const packsIn = (store: string): string[] =>
  readdirSync(join(store, 'packs')).flatMap((prefix) => readdirSync(join(store, 'packs', prefix)));
const leftIn = (store: string): string[] => [
  ...readdirSync(join(store, 'tmp')),
  ...readdirSync(join(store, 'locks')).filter((name) => name.startsWith('session-')),
];
const copyTo = (store: string): string[] => ['copy', '--all', '--to', store];

beforeAll(async () => {
  const content = Buffer.from(seededRandom(7).bytes(16 * MIB));
  const stretches = [];
  for (let at = 0; at < IMAGE_MIB; at += 16) {
    // Incompressible, and no two stretches alike.
    const bytes = Buffer.from(content);
    for (let cluster = 0; cluster < bytes.length; cluster += 65536) bytes.writeUInt32LE(at * MIB + cluster, cluster);
    stretches.push({ at: at * MIB, bytes });
  }
  makeImage(bench.path('large.raw'), IMAGE_MIB * MIB, stretches);
  makeImage(bench.path('small.raw'), 3 * MIB, [{ at: 0, bytes: content.subarray(0, 3 * MIB - 5) }]);
  await bench.json(['init', bench.store]);
  await bench.json(['backup', '1', '--disk', 'd=small.raw', '--time', '1700000000']);
  await bench.json(['backup', '2', '--disk', 'd=large.raw', '--time', '1700000000']);
}, 120_000);

describe(`a copy that is cut off (VMAR_TEST_SEED=${SEED})`, () => {
  it('by kill -9, at any moment, leaves no half backup and copies no finished pack twice', async () => {
    await bench.json(['init', destination]);
    let packs = 0;
    let killed = 0;
    for (let round = 0; round < 3; round++) {
      const running = bench.start(['--json', ...copyTo(destination)]);
      // The first round is killed when a pack is there, the others anywhere.
      const isTime = async (): Promise<void> => {
        while (round === 0 && packsIn(destination).length < 3) await delay(5);
        await delay(random.integer(0, 400));
      };
      await Promise.race([running.finished, isTime()]);
      running.child.kill('SIGKILL');
      if ((await running.finished).status === null) killed++;
      expect(packsIn(destination).length).toBeGreaterThanOrEqual(packs);
      packs = packsIn(destination).length;
      const listed = (await bench.json(['--datastore', destination, 'list'])).backups;
      for (const { guest } of listed) expect(['vm/1', 'vm/2']).toContain(guest);
    }
    const last = await bench.json(copyTo(destination));
    expect(killed).toBeGreaterThan(0);
    // A finished data pack of guest 2 holds some 128 MiB.
    const large = last.copied.find(({ backup }: { backup: string }) => backup.startsWith('vm/2/'));
    expect(large.known || large.new < (IMAGE_MIB - 120) * MIB).toBe(true);
    expect(leftIn(destination)).toEqual([]);
    expect(await bench.json(['--datastore', destination, 'verify'])).toMatchObject({ ok: true });
    await bench.json(['--datastore', destination, 'restore', '2', '--disk', 'd=restored.raw']);
    expect(readFileSync(bench.path('restored.raw')).equals(readFileSync(bench.path('large.raw')))).toBe(true);
    rmSync(bench.path('restored.raw'));
    rmSync(destination, { recursive: true });
  });

  it.each(['SIGINT', 'SIGTERM'] as const)('by %s ends with 130 and leaves nothing in tmp/', async (signal) => {
    await bench.json(['init', destination]);
    const running = bench.start(copyTo(destination));
    while (!existsSync(join(destination, 'locks', 'guest-vm+2.lock'))) await delay(5);
    await delay(random.integer(0, 200));
    running.child.kill(signal);
    expect([0, 130]).toContain((await running.finished).status);
    expect(leftIn(destination)).toEqual([]);
    expect(await bench.json(['--datastore', destination, 'verify'])).toMatchObject({ ok: true });
    rmSync(destination, { recursive: true });
  });
});

describe('a destination', () => {
  const disk = bench.path('disk');
  const isThere = mountSmallDisk('tmpfs', disk, 64);
  const store = join(disk, 'store');

  it.runIf(isThere)('that is full ends it with a clear error; what was copied stays, and nothing half', async () => {
    await bench.json(['init', store]);
    const error = await bench.error(copyTo(store));
    expect(error).toMatchObject({ exit: 1, code: 'no-space' });
    expect(leftIn(store)).toEqual([]);
    expect((await bench.json(['--datastore', store, 'list'])).backups).toMatchObject([{ guest: 'vm/1' }]);
    expect(await bench.json(['--datastore', store, 'verify'])).toMatchObject({ ok: true });
    rmSync(store, { recursive: true });
  });

  it.runIf(isThere)('on which room is to be left is not filled', async () => {
    await bench.json(['init', store]);
    const error = await bench.error([...copyTo(store), '--min-free', '24MiB']);
    expect(error).toMatchObject({ exit: 1, code: 'min-free' });
    expect(leftIn(store)).toEqual([]);
    expect((await bench.json(['--datastore', store, 'list'])).backups).toMatchObject([{ guest: 'vm/1' }]);
    rmSync(store, { recursive: true });
  });

  it.runIf(isThere)('that goes away is said, once, and is no damage', async () => {
    const away = bench.path('away');
    expect(mountSmallDisk('tmpfs', away, 600)).toBe(true);
    const there = join(away, 'store');
    await bench.json(['init', there]);
    const running = bench.start(['--json', ...copyTo(there)]);
    while (!existsSync(join(there, 'locks', 'guest-vm+2.lock'))) await delay(2);
    await delay(50);
    spawnSync('umount', ['-l', away]);
    const { status, json } = await running.finished;
    expect(status).toBe(1);
    expect(json().error).toMatchObject({ code: 'store-unreachable', object: there });
  });
});
