// SPDX-License-Identifier: MIT
// Proves: a backup of a running guest reads no faster than it may; its fleecing files hold no more than what the guest
// overwrote and was not read yet; the monitor is free meanwhile; and a fleecing directory that will not do is told.

import { spawnSync } from 'node:child_process';
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { QmpClient } from '#vmar/src/qmp/qmp-client.js';
import { seededRandom } from '../base/random.js';
import { Bench } from '../cli/bench.js';
import { fillDisk, mountSmallDisk } from '../crash/small-disk.js';
import { guestState } from './guest-state.js';
import { RawMonitor } from './machine.js';
import { haveStorageDaemon, type StorageDaemon, startStorageDaemon } from './storage-daemon.js';
import { mountUnsparseDisk } from './unsparse-disk.js';

const MIB = 1 << 20;
const SIZE = 96 * MIB;
const CLUSTER = 65536;
const SEED = Number(process.env.VMAR_LIVE_SEED ?? Math.floor(Math.random() * 1e6));

describe.skipIf(!haveStorageDaemon('limits of live backups'))(`a backup of a running guest, seed ${SEED}`, () => {
  const bench = new Bench();
  const small = mountSmallDisk('ext4', bench.path('full'), 4);
  const unsparse = mountUnsparseDisk(bench.path('unsparse'), 64);
  let daemon: StorageDaemon;

  beforeAll(async () => {
    mkdirSync(bench.path('fleece'));
    const image = bench.path('a.qcow2');
    spawnSync('qemu-img', ['create', '-q', '-f', 'qcow2', image, String(SIZE)]);
    daemon = await startStorageDaemon(bench.directory, [{ name: 'a', image, format: 'qcow2' }]);
    const fd = openSync(daemon.mounts.get('a')!, 'r+');
    for (let at = 0; at < SIZE; at += MIB) writeSync(fd, Buffer.alloc(MIB, 1 + (at % 251)), 0, MIB, at);
    closeSync(fd);
    await bench.json(['init', 'store']);
  });

  afterAll(async () => {
    await daemon.stop();
  });

  const words = (fleece: string, ...more: string[]) => [
    ...['backup', '100', '--qmp', daemon.qmp, '--fleece', bench.path(fleece), ...more],
  ];

  const fleeceBytes = (): number => {
    try {
      const [run] = readdirSync(bench.path('fleece'));
      return run === undefined ? 0 : statSync(bench.path('fleece', run, 'fleece0')).blocks * 512;
    } catch {
      return 0;
    }
  };

  it('keeps to its speed, and its fleecing file small, while the guest writes and others use the monitor', async () => {
    const random = seededRandom(SEED);
    const before = readFileSync(daemon.mounts.get('a')!);
    const fd = openSync(daemon.mounts.get('a')!, 'r+');
    const { finished } = bench.start(['--json', ...words('fleece', '--speed', '16MiB')]);
    let [isDone, most, last, written] = [false, 0, 0, 0];
    void finished.then(() => {
      isDone = true;
    });
    while (!isDone && (await guestState(daemon.qmp)).exports.length < 2) await delay(20);
    const from = performance.now();
    const dirtied = new Set<number>();
    while (!isDone) {
      const cluster = random.integer(0, SIZE / CLUSTER - 1);
      if (!dirtied.has(cluster)) written += CLUSTER;
      dirtied.add(cluster);
      writeSync(fd, Buffer.alloc(4096, 255), 0, 4096, cluster * CLUSTER);
      last = fleeceBytes();
      most = Math.max(most, last);
      if (random.oneIn(40)) await (await QmpClient.open(daemon.qmp, { greetingMillis: 2000 })).close();
      await delay(2);
    }
    closeSync(fd);
    const seconds = (performance.now() - from) / 1000;
    const { status, json } = await finished;
    expect(status).toBe(0);
    // 96 MiB at 16 MiB/s; a second's worth may go ahead.
    expect(seconds).toBeGreaterThan(SIZE / (16 * MIB) - 1.5);
    console.log(`${(written / MIB).toFixed(0)} MiB were overwritten, ${(most / MIB).toFixed(1)} MiB put aside at most`);
    // Spread over all of the disk, half of what is written is not read yet at half time, and less before and after.
    expect(most).toBeLessThan(written * 0.45 + 4 * MIB);
    expect(readdirSync(bench.path('fleece'))).toEqual([]);
    rmSync(bench.path('out'), { recursive: true, force: true });
    await bench.json(['restore', json().backup, '--to', 'out']);
    expect(readFileSync(bench.path('out', 'a.raw')).equals(before)).toBe(true);
  }, 60_000);

  it('says that its fleecing directory has no room, and leaves the guest as it was', async (context) => {
    if (!small) return context.skip();
    fillDisk(bench.path('full'));
    const state = await guestState(daemon.qmp);
    const told = { exit: 1, code: 'fleece-unusable', message: expect.stringContaining('it is full') };
    expect(await bench.error(words('full'))).toMatchObject(told);
    expect(await guestState(daemon.qmp)).toEqual(state);
  });

  it('finds the fleecing directory from where it was started, not from where QEMU was', async () => {
    await bench.json(['backup', '100', '--qmp', daemon.qmp, '--fleece', 'fleece']);
    expect(readdirSync(bench.path('fleece'))).toEqual([]);
    const nameless = await bench.error(['backup', '100', '--qmp', daemon.qmp, '--fleece', '']);
    expect(nameless).toMatchObject({ exit: 2, code: 'bad-fleece' });
  });

  it('says that its fleecing directory has no sparse files', async (context) => {
    if (!unsparse) return context.skip();
    const state = await guestState(daemon.qmp);
    expect(await bench.error(words('unsparse'))).toMatchObject({
      exit: 1,
      code: 'fleece-not-sparse',
      object: expect.stringContaining(bench.path('unsparse')),
      advice: expect.stringContaining('--fleece'),
    });
    expect(await guestState(daemon.qmp)).toEqual(state);
    expect(readdirSync(bench.path('unsparse'))).toEqual([]);
  });

  it('does not pass over a disk in silence that no filter can be put under', async () => {
    writeFileSync(bench.path('other.mount'), '');
    const monitor = new RawMonitor(daemon.qmp);
    await monitor.ask('blockdev-add', { driver: 'null-co', 'node-name': 'other', size: MIB });
    const mountpoint = bench.path('other.mount');
    await monitor.ask('block-export-add', { type: 'fuse', id: 'o', 'node-name': 'other', mountpoint, writable: true });
    monitor.close();
    expect(await bench.error(words('fleece'))).toMatchObject({
      exit: 1,
      code: 'disk-not-possible',
      message: expect.stringContaining('disk other cannot be backed up'),
      advice: expect.stringContaining('--exclude other'),
    });
    const { skipped } = await bench.json(words('fleece', '--exclude', 'other', '--output', bench.path('x.vmar')));
    expect(skipped).toMatchObject([{ name: 'other', reason: expect.stringContaining('null-co') }]);
    const again = new RawMonitor(daemon.qmp);
    await again.ask('block-export-del', { id: 'o', mode: 'hard' });
    again.close();
  });

  it('takes away what a killed one of another guest’s name left', async () => {
    const bitmaps = (await guestState(daemon.qmp)).bitmaps.length;
    const { child, finished } = bench.start(words('fleece', '--speed', '1MiB'));
    while ((await guestState(daemon.qmp)).exports.length < 2) await delay(20);
    child.kill('SIGKILL');
    await finished;
    const run = await bench.run(['--json', ...words('fleece').map((word) => (word === '100' ? '200' : word))]);
    expect(run.status).toBe(0);
    expect(run.stderr).toMatch(/took away what an earlier backup left/);
    const state = await guestState(daemon.qmp);
    expect(state.nodes.filter((name) => name.startsWith('vmar-'))).toEqual([]);
    expect(readdirSync(bench.path('fleece'))).toEqual([]);
    // Those of guest 100 stay, one more than before for the killed run; the next backup of it is incremental.
    expect(state.bitmaps.length).toBe(bitmaps + 2);
    const { disks } = await bench.json(words('fleece'));
    expect(disks[0].fullReason ?? '').toBe('');
    expect(disks[0].read).toBeLessThan(SIZE);
    expect((await guestState(daemon.qmp)).bitmaps.length).toBe(bitmaps + 1);
  });
});
