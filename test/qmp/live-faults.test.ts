// SPDX-License-Identifier: MIT
// Proves: whatever ends a backup of a running guest, the guest goes on, nothing is left in it (at the latest after the
// next backup), no change is lost between backups, and the user is told why.

import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { QmpClient } from '#vmar/src/qmp/qmp-client.js';
import { seededRandom } from '../base/random.js';
import { Bench } from '../cli/bench.js';
import { mountSmallDisk } from '../crash/small-disk.js';
import { type GuestState, guestState } from './guest-state.js';
import { LiveWriter } from './live-writer.js';
import { haveStorageDaemon, type StorageDaemon, startStorageDaemon } from './storage-daemon.js';

const SIZE = 16 << 20;
const SEED = Number(process.env.VMAR_LIVE_SEED ?? Math.floor(Math.random() * 1e6));
const KILLS = Number(process.env.VMAR_LIVE_KILLS ?? 6);

describe.skipIf(!haveStorageDaemon('failing backups of running guests'))('a backup of a running guest', () => {
  const bench = new Bench();
  let daemon: StorageDaemon;
  let writer: LiveWriter;
  let before: GuestState;
  const small = mountSmallDisk('tmpfs', bench.path('small'), 1);

  beforeEach(async () => {
    for (const name of ['fleece', 'store', 'cache']) rmSync(bench.path(name), { recursive: true, force: true });
    mkdirSync(bench.path('fleece'));
    const image = bench.path('a.qcow2');
    spawnSync('qemu-img', ['create', '-q', '-f', 'qcow2', image, String(SIZE)]);
    daemon = await startStorageDaemon(bench.directory, [{ name: 'a', image, format: 'qcow2' }]);
    await bench.json(['init', 'store']);
    before = await guestState(daemon.qmp);
    writer = new LiveWriter(SEED, [SIZE]);
    await writer.start(daemon.mounts.values());
  });

  afterEach(async () => {
    await writer.stop().catch(() => {});
    await daemon.stop();
  });

  const words = (fleece = 'fleece') => ['backup', '100', '--qmp', daemon.qmp, '--fleece', bench.path(fleece)];

  async function expectNothingLeft(bitmaps = ['a-image true']): Promise<void> {
    expect(await guestState(daemon.qmp)).toEqual({ ...before, bitmaps });
    expect(readdirSync(bench.path('fleece'))).toEqual([]);
  }

  /** Backs up; it must work and be right. */
  async function expectGood(): Promise<void> {
    const least = writer.writes;
    const { backup } = await bench.json(words());
    const most = writer.writes + 1;
    rmSync(bench.path('out'), { recursive: true, force: true });
    await bench.json(['restore', backup, '--to', 'out']);
    const moment = writer.momentOf([readFileSync(bench.path('out', 'a.raw'))]);
    expect(moment).toBeGreaterThanOrEqual(least);
    expect(moment).toBeLessThanOrEqual(most);
  }

  async function untilInserted(): Promise<void> {
    for (let turn = 0; turn < 500; turn++) {
      try {
        if ((await guestState(daemon.qmp)).edges.some((edge) => /^a file vmar-/.test(edge))) return;
      } catch {}
      await delay(10);
    }
    throw new Error('the filter never came');
  }

  it(`killed at any moment is cleared up by the next, seed ${SEED}`, async () => {
    await expectGood();
    const random = seededRandom(SEED);
    for (let kill = 0; kill < KILLS; kill++) {
      const { child, finished } = bench.start([...words(), '--speed', '2MiB']);
      await delay(random.integer(150, 900));
      child.kill('SIGKILL');
      await finished;
      // Every other time one more is killed before any was cleared up.
      if (random.oneIn(2)) continue;
      await expectGood();
      await expectNothingLeft();
    }
    await expectGood();
    await expectNothingLeft();
    const { backups } = await bench.json(['list']);
    const { disks } = await bench.json(['show', backups.at(-1).backup]);
    // The chain of bitmaps never broke.
    expect(disks[0].fullReason ?? '').toBe('');
  }, 120_000);

  it('that is interrupted leaves nothing, and loses no change', async () => {
    await expectGood();
    const { child, finished } = bench.start([...words(), '--speed', '1MiB']);
    await untilInserted();
    child.kill('SIGINT');
    expect((await finished).status).toBe(130);
    await expectNothingLeft();
    await expectGood();
  });

  it('ends when QEMU is killed, and leaves nothing on the host', async () => {
    const { finished } = bench.start(['--json', ...words(), '--speed', '1MiB']);
    await untilInserted();
    await daemon.kill();
    const { status, text } = await finished;
    expect(status).toBe(1);
    expect(JSON.parse(text).error.code).toMatch(/^(qmp|nbd|connection|read)-|^guardian-lost$/);
    expect(readdirSync(bench.path('fleece'))).toEqual([]);
  });

  it('fails, and not the guest, when the fleecing directory is full', async (context) => {
    if (!small) return context.skip();
    const running = bench.start(['--json', ...words('small'), '--speed', '1MiB']);
    await untilInserted();
    writer.hasty = true;
    const { status, text } = await running.finished;
    expect(JSON.parse(text).error).toMatchObject({ code: 'snapshot-broken' });
    writer.hasty = false;
    expect(status).toBe(1);
    expect(await guestState(daemon.qmp)).toEqual(before);
    expect(readdirSync(bench.path('small'))).toEqual([]);
    await expectGood();
  });

  it('keeps others out', async () => {
    const { child, finished } = bench.start([...words(), '--speed', '1MiB']);
    await untilInserted();
    expect(await bench.error(words())).toMatchObject({ exit: 5 });
    await bench.json(['init', 'other']);
    const elsewhere = ['--datastore', bench.path('other'), ...words()];
    expect(await bench.error(elsewhere)).toMatchObject({ exit: 5, code: 'guest-busy' });
    child.kill('SIGINT');
    await finished;
    await expectNothingLeft([]);
  });

  it("says what is wrong with the monitor's socket", async () => {
    const error = (path: string) => bench.error(['backup', '100', '--qmp', path]);
    expect(await error(bench.path('none'))).toMatchObject({ exit: 1, code: 'qmp-missing', object: bench.path('none') });
    writeFileSync(bench.path('file'), '');
    expect(await error(bench.path('file'))).toMatchObject({ exit: 1, code: 'not-qmp' });
    const other = await QmpClient.open(daemon.qmp);
    expect(await error(daemon.qmp)).toMatchObject({ exit: 5, code: 'qmp-busy' });
    await other.close();
    const fleece = [...words().slice(0, -1), bench.path('nowhere')];
    expect(await bench.error(fleece)).toMatchObject({ exit: 1, code: 'fleece-unusable' });
    await expectNothingLeft([]);
  });

  it("goes in with QEMU's NBD server, and leaves it to whom it belongs", async () => {
    const client = await QmpClient.open(daemon.qmp);
    const path = join(bench.directory, 'others-nbd');
    await client.execute('nbd-server-start', { addr: { type: 'unix', data: { path } } });
    await client.execute('blockdev-add', { driver: 'null-co', 'node-name': 'n', size: 512 });
    const others = { type: 'nbd', id: 'others', 'node-name': 'n', name: 'others', writable: false } as const;
    await client.execute('block-export-add', others);
    await client.close();
    await expectGood();
    expect((await guestState(daemon.qmp)).exports).toEqual(['fuse-a', 'others']);
    const again = await QmpClient.open(daemon.qmp);
    await again.execute('block-export-del', { id: 'others', mode: 'hard' });
    await again.close();
    // The server is still not ours, though nobody else exports through it; not even when a killed run is cleared up.
    const { child, finished } = bench.start([...words(), '--speed', '1MiB']);
    await untilInserted();
    child.kill('SIGKILL');
    await finished;
    await expectGood();
    const last = await QmpClient.open(daemon.qmp);
    await expect(last.execute('nbd-server-start', { addr: { type: 'unix', data: { path } } })).rejects.toThrow(
      /already running/,
    );
    await last.close();
  });

  it("does not guess where QEMU's NBD server listens", async () => {
    const client = await QmpClient.open(daemon.qmp);
    await client.execute('nbd-server-start', {
      addr: { type: 'inet', data: { host: '127.0.0.1', port: '0' } },
    } as never);
    await client.close();
    expect(await bench.error(words())).toMatchObject({ exit: 5, code: 'nbd-in-use' });
    expect((await guestState(daemon.qmp)).exports).toEqual(['fuse-a']);
  });
});
