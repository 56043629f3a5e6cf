// SPDX-License-Identifier: MIT
// vma-restore --live as users run it: what it serves, how it ends, how it goes on, and what it refuses.

import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { openFileDevice } from '#vmar/src/block/file-device.js';
import { type NbdDevice, openNbdDevice } from '#vmar/src/nbd/client/nbd-client.js';
import { haveTool } from '../base/scratch.js';
import { Bench } from '../cli/bench.js';
import { CLUSTER, makeImage, mixedImage, noise } from '../cli/images.js';
import { exportUri, LiveProcess } from './live-process.js';

const bench = new Bench();
const program = 'vma-restore' as const;
const BIG = 160 * CLUSTER;
/** The guest's NBD client sees a lost connection as an error. */
const CLIENT = { readOnly: false, connections: 1, reconnectMillis: 0 } as const;

beforeAll(async () => {
  await bench.json(['init', bench.store]);
  mixedImage(bench.path('a.raw'));
  makeImage(bench.path('b.raw'), BIG, [{ at: 0, bytes: noise(160) }]);
  makeImage(bench.path('empty.raw'), 0);
  await bench.json(['backup', '100', '--disk', 'drive-scsi0=a.raw', '--disk', 'b=b.raw', '--disk', 'e=empty.raw']);
  await bench.json(['backup', '101', '--disk', 'b=a.raw']);
  // Its first half lies in a pack of the first backup, the rest in another.
  const first = content('b.raw').subarray(0, 80 * CLUSTER);
  makeImage(bench.path('c.raw'), BIG, [
    { at: 0, bytes: first },
    { at: 80 * CLUSTER, bytes: noise(80) },
  ]);
  await bench.json(['backup', '102', '--disk', 'b=c.raw']);
  await bench.json(['backup', '103', '--disk', 'b=b.raw', '--output', 'b.vmar']);
});

let live: LiveProcess[] = [];
afterEach(async () => {
  for (const process of live) if (!process.hasEnded) await process.signal('SIGKILL');
  live = [];
  for (const name of ['t.raw', 't.raw.vmar-live', 'u.raw', 'u.raw.vmar-live', 's.sock']) {
    rmSync(bench.path(name), { force: true });
  }
});

function start(...words: string[]): LiveProcess {
  const process = new LiveProcess(bench, words);
  live.push(process);
  return process;
}

const toT = (...more: string[]): string[] => ['100', '--disk', 'b=t.raw', '--socket', 's.sock', ...more];
const connect = (name = 'b'): Promise<NbdDevice> => openNbdDevice(exportUri(bench, name), CLIENT);
const content = (name: string): Buffer => readFileSync(bench.path(name));
const there = (name: string): boolean => existsSync(bench.path(name));

async function readAt(device: NbdDevice, at: number, length: number): Promise<Buffer> {
  const into = Buffer.alloc(length);
  await device.read(at, into);
  return into;
}

function same(restored: string, image: string): void {
  expect(content(restored).equals(content(image)), `${restored} = ${image}`).toBe(true);
}

/** Stops it in the middle, with a little restored and written. */
async function half(...more: string[]): Promise<void> {
  const process = start(...toT('--speed', '64KiB', ...more));
  await process.until('listening');
  const device = await connect();
  await device.write(5 * CLUSTER, Buffer.alloc(CLUSTER, 5));
  await process.signal('SIGKILL');
  await device.close().catch(() => undefined);
}

describe('vma-restore --live', () => {
  it('restores two disks and ends with --exit-when-done, leaving nothing but them', async () => {
    const process = start(
      '100',
      '--disk',
      'scsi0=t.raw',
      '--disk',
      'b=u.raw',
      '--socket',
      's.sock',
      '--exit-when-done',
    );
    expect(await process.status()).toBe(0);
    same('t.raw', 'a.raw');
    same('u.raw', 'b.raw');
    expect(['t.raw.vmar-live', 'u.raw.vmar-live', 's.sock'].filter(there)).toEqual([]);
    expect(process.events.map(({ event }) => event).filter((event) => event !== 'progress')).toEqual([
      ...['listening', 'filled', 'filled', 'done', 'exit'],
    ]);
    expect(process.events[0]).toMatchObject({
      socket: bench.path('s.sock'),
      disks: [
        { name: 'drive-scsi0', target: 't.raw', state: bench.path('t.raw.vmar-live'), held: 0, resumed: false },
        { name: 'b', size: BIG },
      ],
    });
    expect(process.events.at(-1)).toEqual({ event: 'exit', outcome: 'done', status: 0 });
  });

  it('restores a disk of no length', async () => {
    expect(await start('100', '--disk', 'e=t.raw', '--socket', 's.sock', '--exit-when-done').status()).toBe(0);
    expect(statSync(bench.path('t.raw')).size).toBe(0);
  });

  it('lets a guest read and write at once, and ends when it has left', async () => {
    const process = start(...toT());
    await process.until('listening');
    const device = await connect('');
    const image = content('b.raw');
    expect((await readAt(device, 150 * CLUSTER, CLUSTER)).equals(image.subarray(150 * CLUSTER, 151 * CLUSTER))).toBe(
      true,
    );
    const mine = Buffer.alloc(1000, 9);
    await device.write(100_000, mine);
    await process.until('done');
    mine.copy(image, 100_000);
    expect((await readAt(device, 0, BIG)).equals(image)).toBe(true);
    await device.close();
    expect(await process.status()).toBe(0);
    expect(content('t.raw').equals(image)).toBe(true);
    expect(there('t.raw.vmar-live')).toBe(false);
  });

  it('keeps to --speed', async () => {
    const process = start(...toT('--speed', '4MiB', '--exit-when-done'));
    await process.until('listening');
    const from = performance.now();
    expect(await process.status()).toBe(0);
    // 10 MiB; some may go at once.
    expect(performance.now() - from).toBeGreaterThan(1000);
    same('t.raw', 'b.raw');
  });

  it.skipIf(!haveTool('qemu-io', 'live restore with QEMU as the guest'))('serves QEMU', async () => {
    const process = start(...toT());
    await process.until('listening');
    const commands = [
      'read 1M 64k',
      'write -P 7 2M 100k',
      'write -z 3M 64k',
      'discard 4M 1M',
      'flush',
      'read -P 7 2M 100k',
    ];
    const qemu = spawnSync('qemu-io', ['-f', 'raw', ...commands.flatMap((c) => ['-c', c]), exportUri(bench, 'b')]);
    expect(qemu.status, String(qemu.stderr)).toBe(0);
    expect(await process.status()).toBe(0);
    const expected = content('b.raw');
    const MIB = 1 << 20;
    expected.fill(7, 2 * MIB, 2 * MIB + 102_400).fill(0, 3 * MIB, 3 * MIB + CLUSTER);
    const found = content('t.raw');
    // What is discarded may be anything; here it is zeros, or the backup's where the restore had brought it before.
    for (const bytes of [expected, found]) bytes.fill(0, 4 * MIB, 5 * MIB);
    expect(found.equals(expected)).toBe(true);
  });
});

describe('a live restore that was stopped', () => {
  it('by SIGTERM exits with 130, and goes on without --overwrite', async () => {
    const process = start(...toT('--speed', '64KiB'));
    await process.until('listening');
    const device = await connect();
    await device.write(0, Buffer.alloc(10_000, 3));
    expect(await process.signal('SIGTERM')).toBe(130);
    expect(process.events.at(-1)).toMatchObject({ event: 'exit', outcome: 'interrupted', status: 130 });
    expect(there('s.sock')).toBe(false);
    const again = start(...toT('--exit-when-done'));
    expect(await again.status()).toBe(0);
    expect(again.events[0].disks[0]).toMatchObject({ resumed: true });
    expect(again.events[0].disks[0].held).toBeGreaterThan(10_000);
    expect(content('t.raw').equals(Buffer.concat([Buffer.alloc(10_000, 3), content('b.raw').subarray(10_000)]))).toBe(
      true,
    );
  });

  it('when it was complete serves on as soon as it is started again', async () => {
    const process = start(...toT());
    await process.until('done');
    await process.signal('SIGKILL');
    writeFileSync(bench.path('t.raw'), 'guest', { flag: 'r+' });
    const again = start(...toT());
    await again.until('done');
    const device = await connect();
    expect(String(await readAt(device, 0, 5))).toBe('guest');
    await device.close();
    expect(await again.status()).toBe(0);
    expect(there('t.raw.vmar-live')).toBe(false);
  });

  it('is not gone on with by another backup or disk, or to another target', async () => {
    await half();
    const state = bench.path('t.raw.vmar-live');
    const other = (words: string[]) => bench.error(['--live', '--socket', 's.sock', ...words], { program });
    const before = content('t.raw');
    expect(await other(['101', '--disk', 'b=t.raw'])).toMatchObject({
      ...{ code: 'state-of-another-backup', exit: 1, object: state },
      expected: expect.stringContaining('vm/101/'),
      found: expect.stringContaining('vm/100/'),
    });
    expect(await other(['100', '--disk', 'scsi0=t.raw'])).toMatchObject({ code: 'state-of-another-backup' });
    expect(await other(['100', '--disk', 'b=u.raw', '--state', 't.raw.vmar-live'])).toMatchObject({
      code: 'state-of-another-target',
    });
    expect(there('u.raw')).toBe(false);
    copyFileSync(bench.path('t.raw'), bench.path('copy.raw'));
    renameSync(bench.path('copy.raw'), bench.path('t.raw'));
    expect(await other(['100', '--disk', 'b=t.raw'])).toMatchObject({ code: 'state-of-another-target', exit: 1 });
    rmSync(bench.path('t.raw'));
    expect(await other(['100', '--disk', 'b=t.raw'])).toMatchObject({ code: 'state-of-another-target' });
    expect(before.length).toBe(BIG);
  });

  it('with a damaged head of its state is refused with 3', async () => {
    await half();
    const bytes = content('t.raw.vmar-live');
    bytes[40]! ^= 1;
    writeFileSync(bench.path('t.raw.vmar-live'), bytes);
    expect(await bench.error(['--live', ...toT()], { program })).toMatchObject({
      ...{ code: 'state-damaged', exit: 3, object: bench.path('t.raw.vmar-live') },
      advice: expect.stringContaining('--overwrite'),
    });
  });

  it('takes --state FILE, and FILE.NAME of several disks', async () => {
    const one = start(...toT('--state', 'one', '--speed', '64KiB'));
    await one.until('listening');
    await one.signal('SIGTERM');
    expect(there('one')).toBe(true);
    const words = ['100', '--disk', 'scsi0=u.raw', '--disk', 'e=v.raw', '--socket', 's.sock', '--state', 'two'];
    const two = start(...words);
    await two.until('done');
    expect(there('two.drive-scsi0') && there('two.e')).toBe(true);
    await two.signal('SIGKILL');
    for (const name of ['one', 'two.drive-scsi0', 'two.e', 'v.raw']) rmSync(bench.path(name));
  });
});

describe('a live restore is refused', () => {
  const refused = (...words: string[]) => bench.error(['--live', ...words], { program });

  it('to a target that is too small, not empty, or in use, which stays as it is', async () => {
    makeImage(bench.path('t.raw'), BIG - 1);
    expect(await refused(...toT('--overwrite'))).toMatchObject({ code: 'target-too-small', exit: 1 });
    makeImage(bench.path('t.raw'), BIG, [{ at: 77, bytes: Buffer.from('x') }]);
    const before = content('t.raw');
    expect(await refused(...toT())).toMatchObject({ code: 'target-not-empty', exit: 1 });
    const user = await openFileDevice(bench.path('t.raw'), { readOnly: false });
    expect(await refused(...toT('--overwrite'))).toMatchObject({ code: 'image-locked', exit: 5 });
    await user.close();
    expect(content('t.raw').equals(before)).toBe(true);
    expect(there('t.raw.vmar-live')).toBe(false);
    expect(await start(...toT('--overwrite', '--exit-when-done')).status()).toBe(0);
    same('t.raw', 'b.raw');
  });

  it('with 5 while another process restores with the state file or serves on the socket, and leaves nothing', async () => {
    const first = start(...toT('--speed', '64KiB'));
    await first.until('listening');
    expect(await refused(...toT())).toMatchObject({ exit: 5, code: 'state-in-use' });
    expect(await refused(...toT('--state', 'other'))).toMatchObject({ exit: 5, code: 'image-locked' });
    expect(await refused('101', '--disk', 'b=u.raw', '--socket', 's.sock')).toMatchObject({ exit: 5 });
    expect(['u.raw', 'u.raw.vmar-live', 'u.raw.vmar-live.new', 'other'].filter(there)).toEqual([]);
    const device = await connect();
    expect((await readAt(device, 0, 4096)).equals(content('b.raw').subarray(0, 4096))).toBe(true);
    await device.close();
  });

  it('when words are missing or make no sense', async () => {
    for (const [words, expected] of [
      [['100', '--disk', 'b=t.raw'], { code: 'no-socket', exit: 2 }],
      [['100', '--socket', 's.sock'], { code: 'no-target', exit: 2 }],
      [['100', '--to', 'x', '--socket', 's.sock'], { code: 'not-live', exit: 2 }],
      [toT('--allow-damaged'), { code: 'not-live', exit: 2 }],
      [toT('--speed', 'fast'), { exit: 2 }],
      [['100', '--disk', 'b=t.raw', '--disk', 'e=./t.raw', '--socket', 's.sock'], { code: 'same-target', exit: 2 }],
      [['100', '--disk', 'b=t.raw', '--socket', 'x'.repeat(120)], { code: 'socket-path-too-long', exit: 2 }],
      [['100', '--disk', 'zz=t.raw', '--socket', 's.sock'], { exit: 4 }],
      [['777', '--disk', 'b=t.raw', '--socket', 's.sock'], { exit: 4 }],
    ] as const) {
      expect(await refused(...words)).toMatchObject(expected);
    }
    expect(there('t.raw')).toBe(false);
  });
});

describe('a datastore that goes away', () => {
  it('makes reads wait and the restore stand still, and both go on when it is back', async () => {
    const words = ['102', '--disk', 'b=t.raw', '--socket', 's.sock'];
    const process = start(...words, '--speed', '64KiB');
    await process.until('listening');
    const device = await connect();
    const mine = Buffer.alloc(CLUSTER, 1);
    await device.write(159 * CLUSTER, mine);
    renameSync(bench.store, bench.path('away'));
    // Open files can be read still: the first pack is one.
    const reads = [90, 140].map((cluster) => readAt(device, cluster * CLUSTER, CLUSTER));
    expect((await process.until('stalled')).disk).toBe('b');
    expect((await readAt(device, 159 * CLUSTER, CLUSTER)).equals(mine)).toBe(true);
    await device.write(158 * CLUSTER, mine);
    await delay(300);
    renameSync(bench.path('away'), bench.store);
    const image = content('c.raw');
    for (const [index, bytes] of (await Promise.all(reads)).entries()) {
      const at = [90, 140][index]! * CLUSTER;
      expect(bytes.equals(image.subarray(at, at + CLUSTER))).toBe(true);
    }
    await process.until('going-on');
    await process.signal('SIGTERM');
    await device.close().catch(() => undefined);
    expect(await start(...words, '--exit-when-done').status()).toBe(0);
    for (const cluster of [158, 159]) mine.copy(image, cluster * CLUSTER);
    expect(content('t.raw').equals(image)).toBe(true);
  });
});

describe('a damaged backup', () => {
  const words = ['./bad.vmar', '--disk', 'b=t.raw', '--socket', 's.sock'];
  /** Of the clusters that cannot be read. */
  let lost: { offset: number; length: number };

  beforeAll(async () => {
    const bytes = content('b.vmar');
    bytes[5 << 20]! ^= 1;
    writeFileSync(bench.path('bad.vmar'), bytes);
  });

  it('fails reads of its range alone, is restored but for that, and exits with 3', async () => {
    const process = start(...words);
    await process.until('stopped', ({ why }) => why === 'damaged');
    const damaged = process.events.filter(({ event }) => event === 'damaged');
    lost = { offset: damaged[0].offset, length: damaged.length * CLUSTER };
    expect(lost.offset + lost.length).toBe(damaged.at(-1).offset + damaged.at(-1).length);
    expect(lost.length).toBeLessThan(BIG / 2);
    const device = await connect();
    await expect(readAt(device, lost.offset + 100, 100)).rejects.toThrow();
    const image = content('b.raw');
    expect((await readAt(device, 0, lost.offset)).equals(image.subarray(0, lost.offset))).toBe(true);
    const end = lost.offset + lost.length;
    expect((await readAt(device, end, BIG - end)).equals(image.subarray(end))).toBe(true);
    await device.close();
    expect(await process.status()).toBe(3);
    expect(process.events.at(-1)).toMatchObject({ outcome: 'damaged', status: 3 });
    expect(there('t.raw.vmar-live')).toBe(true);
  });

  it('with --exit-when-done and no guest ends with 3 at once', async () => {
    expect(await start(...words, '--exit-when-done').status()).toBe(3);
  });

  it('is healed by a guest that overwrites what is damaged', async () => {
    const process = start(...words);
    const device = await process.until('listening').then(() => connect());
    await process.until('stopped');
    const image = content('b.raw').fill(4, lost.offset, lost.offset + lost.length);
    for (let at = lost.offset; at < lost.offset + lost.length; at += CLUSTER) {
      await device.write(at, Buffer.alloc(CLUSTER, 4));
    }
    await process.until('done');
    await device.close();
    expect(await process.status()).toBe(0);
    expect(content('t.raw').equals(image)).toBe(true);
  });
});

describe('a block device', () => {
  const backing = bench.path('device.raw');
  makeImage(backing, BIG + CLUSTER, [{ at: 0, bytes: noise(161) }]);
  const { status, stdout } = spawnSync('losetup', ['--find', '--show', backing], { encoding: 'utf8' });
  const device = stdout?.trim();
  if (status !== 0)
    console.warn('\n!!! losetup does not work here (it takes root): NOT TESTED: live restore to devices\n');
  afterAll(() => {
    if (status === 0) spawnSync('losetup', ['-d', device]);
  });

  it.skipIf(status !== 0)('is restored to; its state lies in /var/lib/vmar/restore', async () => {
    const words = ['100', '--disk', `b=${device}`, '--socket', 's.sock'];
    const state = `/var/lib/vmar/restore/${device.slice(1).replaceAll('/', '_')}.vmar-live`;
    expect(await bench.error(['--live', ...words], { program })).toMatchObject({ code: 'target-not-empty' });
    const process = start(...words, '--overwrite', '--speed', '64KiB');
    expect((await process.until('listening')).disks[0].state).toBe(state);
    const client = await connect();
    expect(client.lengthBytes).toBe(BIG);
    await client.write(3 * CLUSTER, Buffer.alloc(100, 1));
    await process.signal('SIGKILL');
    await client.close().catch(() => undefined);
    expect(existsSync(state)).toBe(true);
    expect(await start(...words, '--exit-when-done').status()).toBe(0);
    expect(existsSync(state)).toBe(false);
    const found = Buffer.alloc(BIG);
    readSync(openSync(device, 'r'), found, 0, BIG, 0);
    const expected = content('b.raw');
    expected.fill(1, 3 * CLUSTER, 3 * CLUSTER + 100);
    expect(found.equals(expected)).toBe(true);
    truncateSync(backing, 0);
  });
});
