// SPDX-License-Identifier: MIT
// Proves: a backup of a running guest, full or incremental, is to the byte what all its disks held at one moment during
// it, whatever the guest writes; and nothing is left in the guest afterwards.

import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { QmpClient } from '#vmar/src/qmp/qmp-client.js';
import { Bench } from '../cli/bench.js';
import { type GuestState, guestState } from './guest-state.js';
import { LiveWriter } from './live-writer.js';
import { haveStorageDaemon, type StorageDaemon, startStorageDaemon } from './storage-daemon.js';

const MIB = 1 << 20;
const SIZES = [24 * MIB, 8 * MIB + 4096];
const RUNS = 3;
const SEED = Number(process.env.VMAR_LIVE_SEED ?? Math.floor(Math.random() * 1e6));

describe.skipIf(!haveStorageDaemon('backups of running guests'))('vmar backup --qmp', () => {
  const bench = new Bench();
  const writer = new LiveWriter(SEED, SIZES);
  let daemon: StorageDaemon;
  let before: GuestState;

  beforeAll(async () => {
    mkdirSync(bench.path('fleece'));
    const disks = SIZES.map((size, at) => {
      const format = at === 0 ? ('qcow2' as const) : ('raw' as const);
      const image = bench.path(`${at}.${format}`);
      spawnSync('qemu-img', ['create', '-q', '-f', format, image, String(size)]);
      return { name: `disk-${at}`, image, format };
    });
    daemon = await startStorageDaemon(bench.directory, disks);
    await bench.json(['init', 'store']);
    before = await guestState(daemon.qmp);
    await writer.start(daemon.mounts.values());
  });

  afterAll(async () => {
    await writer.stop();
    await daemon?.stop();
  });

  const backUp = (...words: string[]) =>
    bench.json(['backup', '100', '--qmp', daemon.qmp, '--fleece', bench.path('fleece'), ...words]);

  async function restored(backup: string): Promise<Buffer[]> {
    const to = bench.path('out');
    rmSync(to, { recursive: true, force: true });
    await bench.json(['restore', backup, '--to', to]);
    return SIZES.map((_, at) => readFileSync(join(to, `disk-${at}.raw`)));
  }

  async function expectMoment(backup: string, least: number, most: number): Promise<void> {
    const moment = writer.momentOf(await restored(backup));
    console.log(`seed ${SEED}: ${backup} shows the disks after write ${moment}, begun after ${least}`);
    expect(moment).toBeGreaterThanOrEqual(least);
    expect(moment).toBeLessThanOrEqual(most + 1);
  }

  it.each(Array.from({ length: RUNS }, (_, run) => run))('shows one moment of all disks, run %i', async (run) => {
    const least = writer.writes;
    const { backup, disks } = await backUp();
    await expectMoment(backup, least, writer.writes);
    for (const disk of disks) expect(disk.read + disk.zero + disk.unchanged).toBeGreaterThanOrEqual(disk.size);
    expect(await guestState(daemon.qmp)).toEqual({ ...before, bitmaps: ['disk-0-image true', 'disk-1-image true'] });
    expect(readdirSync(bench.path('fleece'))).toEqual([]);
    const { disks: told } = await bench.json(['show', backup]);
    for (const disk of told) expect(disk.fullReason ?? '').toBe('');
    if (run > 0) return;
    // The first has no bitmaps to rest on, and is full.
    for (const disk of disks) expect(disk.unchanged).toBe(0);
  });

  it('reads what changed, and no more', async () => {
    await writer.stop();
    await backUp();
    const none = await backUp();
    for (const disk of none.disks) expect(disk).toMatchObject({ read: 0, zero: 0, unchanged: disk.size });
    await writer.start(daemon.mounts.values());
    const { disks } = await backUp();
    for (const disk of disks) expect(disk.read + disk.unchanged).toBeGreaterThanOrEqual(disk.size);
  });

  it('into an archive, without a trace', async () => {
    const least = writer.writes;
    const state = await guestState(daemon.qmp);
    const output = bench.path('a.vmar');
    await backUp('--output', output);
    await expectMoment(output, least, writer.writes);
    expect(await guestState(daemon.qmp)).toEqual(state);
  });

  it('only the disks that were chosen', async () => {
    const one = await backUp('--include', 'disk-1', '--output', bench.path('b.vmar'));
    expect(one.disks.map(({ name }: { name: string }) => name)).toEqual(['disk-1']);
    const other = await backUp('--exclude', 'disk-1', '--output', bench.path('c.vmar'));
    expect(other.disks.map(({ name }: { name: string }) => name)).toEqual(['disk-0']);
    const words = ['backup', '100', '--qmp', daemon.qmp, '--include', 'disk-7'];
    expect(await bench.error(words)).toMatchObject({ exit: 2, code: 'no-such-disk' });
  });

  it('goes full for a disk whose bitmap is gone, and for that disk alone', async () => {
    const client = await QmpClient.open(daemon.qmp);
    const nodes = await client.execute('query-named-block-nodes', { flat: true });
    const node = nodes.find(({ nodeName }) => nodeName === 'disk-1-image')!;
    await client.execute('block-dirty-bitmap-remove', { node: 'disk-1-image', name: node.bitmaps[0]!.name });
    await client.close();
    const least = writer.writes;
    const { backup, disks } = await backUp();
    expect(disks[1].read + disks[1].zero).toBe(disks[1].size);
    const { disks: told } = await bench.json(['show', backup]);
    expect(told[0].fullReason ?? '').toBe('');
    expect(told[1].fullReason).toContain('the dirty bitmap of the last backup is gone');
    await expectMoment(backup, least, writer.writes);
  });

  it('finds a bitmap out that lacks a change', async () => {
    await writer.stop();
    await backUp();
    await writer.start(daemon.mounts.values());
    await delay(200);
    await writer.stop();
    const client = await QmpClient.open(daemon.qmp);
    const nodes = await client.execute('query-named-block-nodes', { flat: true });
    for (const node of ['disk-0-image', 'disk-1-image']) {
      // Made anew, it is clean: as if QEMU had forgotten what was written.
      const { name } = nodes.find(({ nodeName }) => nodeName === node)!.bitmaps[0]!;
      await client.execute('block-dirty-bitmap-remove', { node, name });
      await client.execute('block-dirty-bitmap-add', { node, name, granularity: 65536, persistent: false });
    }
    await client.close();
    const words = ['backup', '100', '--qmp', daemon.qmp, '--fleece', bench.path('fleece'), '--paranoid'];
    expect(await bench.error(words)).toMatchObject({ exit: 1, code: 'bitmap-wrong' });
    // What it made is right all the same, and the next can rest on it.
    await expectMoment('100', writer.writes, writer.writes);
    await bench.json(words);
    await writer.start(daemon.mounts.values());
  });

  it('goes full when the last backup was forgotten', async () => {
    const { backups } = await bench.json(['list', '100']);
    await bench.json(['forget', backups.at(-1).backup]);
    const least = writer.writes;
    const { backup } = await backUp();
    const { disks } = await bench.json(['show', backup]);
    for (const disk of disks) expect(disk.fullReason).toContain('the dirty bitmap of the last backup is gone');
    await expectMoment(backup, least, writer.writes);
  });
});
