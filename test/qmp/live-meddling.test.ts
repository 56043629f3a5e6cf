// SPDX-License-Identifier: MIT
// Proves, with a real qemu-system: what others do to a guest's disks while they are backed up costs neither the guest nor
// the backups that follow.

import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Bench, type Json, type Running } from '../cli/bench.js';
import { haveMachine, type Machine, RawMonitor, startMachine } from './machine.js';

const MIB = 1 << 20;
const SIZE = 8 * MIB;

describe.skipIf(!haveMachine('meddling with guests that are backed up'))('a guest that is backed up', () => {
  const bench = new Bench();
  let machine: Machine;

  beforeEach(async () => {
    for (const name of ['fleece', 'store', 'cache', 'over.qcow2']) {
      rmSync(bench.path(name), { recursive: true, force: true });
    }
    mkdirSync(bench.path('fleece'));
    const image = bench.path('a.raw');
    spawnSync('qemu-img', ['create', '-q', '-f', 'raw', image, String(SIZE)]);
    machine = await startMachine(bench.directory, [
      ...['-device', 'virtio-scsi-pci', '-drive', `if=none,id=drive-scsi0,format=raw,file=${image}`],
      ...['-device', 'scsi-hd,drive=drive-scsi0,id=scsi0'],
    ]);
    await bench.json(['init', 'store']);
  });

  afterEach(async () => {
    await machine.kill();
  });

  const words = (...more: string[]) => [
    ...['backup', '100', '--qmp', machine.qmp, '--fleece', bench.path('fleece')],
    ...more,
  ];

  /** A backup that takes a while, and has begun to read. */
  async function begun(): Promise<Running> {
    const running = bench.start(['--json', ...words('--speed', '4MiB')]);
    const exports = async () => (await machine.monitor.ask('query-block-exports')) as Json[];
    for (let turn = 0; turn < 500 && (await exports()).length === 0; turn++) await delay(10);
    expect(await exports()).toHaveLength(1);
    return running;
  }

  async function leftovers(): Promise<string[]> {
    const nodes = (await machine.monitor.ask('query-named-block-nodes', { flat: true })) as Json[];
    const names = nodes.map((node) => node['node-name']);
    return [...names.filter((name) => name.startsWith('vmar-')), ...readdirSync(bench.path('fleece'))];
  }

  async function expectContent(backup: string, content: Buffer): Promise<void> {
    rmSync(bench.path('out'), { recursive: true, force: true });
    await bench.json(['restore', backup, '--to', 'out']);
    expect(readFileSync(bench.path('out', 'drive-scsi0.raw')).equals(content)).toBe(true);
  }

  it('keeps its size until the backup has ended', async () => {
    await bench.json(words());
    await machine.write('scsi0', 7, MIB, 4 * MIB);
    const content = Buffer.alloc(SIZE).fill(7, MIB, 5 * MIB);
    const running = await begun();
    for (const size of [2 * SIZE, SIZE / 2]) {
      const resize = machine.monitor.ask('block_resize', { device: 'drive-scsi0', size });
      await expect(resize).rejects.toThrow(/'resize' .* unshared by node 'vmar-/);
    }
    const finished = await running.finished;
    expect(finished.status).toBe(0);
    await expectContent(finished.json().backup, content);
    expect(await leftovers()).toEqual([]);
    await machine.monitor.ask('block_resize', { device: 'drive-scsi0', size: 2 * SIZE });
    const { disks } = await bench.json(words());
    expect(disks).toMatchObject([{ fullReason: expect.stringContaining('resized') }]);
  });

  it('is rid of its filters though another client has the monitor at the end', async () => {
    const running = await begun();
    const other = new RawMonitor(machine.qmp);
    await other.ask('query-status');
    const ended = async () => ((await bench.json(['list'])).backups as Json[]).length > 0;
    while (!(await ended())) await delay(100);
    // Longer than one attempt to have it takes.
    await delay(5500);
    other.close();
    expect(await running.finished).toMatchObject({ status: 0, stderr: '' });
    expect(await leftovers()).toEqual([]);
  });

  it('may get an image over the filter, which is taken out from below', async () => {
    await machine.write('scsi0', 7, MIB, MIB);
    const running = await begun();
    const over = { 'snapshot-file': bench.path('over.qcow2'), format: 'qcow2' };
    await machine.monitor.ask('blockdev-snapshot-sync', { device: 'drive-scsi0', ...over });
    await machine.write('scsi0', 9, 0, 65536);
    // Its snapshot is lost: QEMU put the new image under that, too.
    expect((await running.finished).status).toBe(1);
    expect(await leftovers()).toEqual([]);
    const [drive] = (await machine.monitor.ask('query-block')) as Json[];
    const { image } = drive.inserted;
    expect(image).toMatchObject({ filename: over['snapshot-file'], 'full-backing-filename': bench.path('a.raw') });
    const { backup } = await bench.json(words());
    await expectContent(
      backup,
      Buffer.alloc(SIZE)
        .fill(7, MIB, 2 * MIB)
        .fill(9, 0, 65536),
    );
    expect(await leftovers()).toEqual([]);
  });

  it('may get a job over the filter, which is then taken away when that has ended', async () => {
    const { monitor } = machine;
    await machine.write('scsi0', 7, MIB, 4 * MIB);
    const running = await begun();
    const filter = (await leftovers()).find((name) => name.endsWith('-c0'));
    await monitor.ask('blockdev-add', { driver: 'null-co', 'node-name': 'sink', size: SIZE });
    const job = { 'job-id': 'copy', device: filter, target: 'sink', sync: 'full', 'auto-finalize': false };
    await monitor.ask('blockdev-backup', job);
    const { status, stderr } = await running.finished;
    expect({ status, stderr }).toEqual({ status: 0, stderr: expect.stringContaining("QEMU's block job copy works") });
    await machine.write('scsi0', 8, MIB, 65536);
    const busy = await bench.error(words());
    expect(busy).toMatchObject({ exit: 5, code: 'disk-busy', message: expect.stringContaining('copy') });
    await monitor.ask('job-finalize', { id: 'copy' });
    while (((await monitor.ask('query-jobs')) as Json[]).length > 0) await delay(10);
    const { backup, disks } = await bench.json(words());
    expect(disks).toMatchObject([{ read: 65536 }]);
    await expectContent(
      backup,
      Buffer.alloc(SIZE)
        .fill(7, MIB, 5 * MIB)
        .fill(8, MIB, MIB + 65536),
    );
    expect(await leftovers()).toEqual([]);
  });

  it('may be waited for by a backup into another datastore', async () => {
    await bench.json(['init', 'other']);
    await machine.write('scsi0', 7, 0, SIZE);
    const first = await begun();
    // Under way for as long as it takes.
    first.child.kill('SIGSTOP');
    expect(await bench.error(['--datastore', 'other', ...words()])).toMatchObject({ exit: 5, code: 'guest-busy' });
    const second = bench.start(['--json', '--datastore', 'other', ...words('--wait')]);
    // By then it has met the first one.
    await Promise.race([second.finished, delay(1500)]);
    first.child.kill('SIGCONT');
    expect((await first.finished).status).toBe(0);
    const { status, stderr } = await second.finished;
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(await leftovers()).toEqual([]);
  });

  it('may not have two devices on one image', async () => {
    const { monitor } = machine;
    const file = { driver: 'file', filename: bench.path('shared.raw') };
    spawnSync('qemu-img', ['create', '-q', '-f', 'raw', file.filename, String(MIB)]);
    await monitor.ask('blockdev-add', { driver: 'raw', 'node-name': 'shared', file });
    for (const id of ['one', 'two']) {
      await monitor.ask('device_add', { driver: 'scsi-hd', drive: 'shared', id, 'share-rw': true });
    }
    const error = await bench.error(words());
    expect(error).toMatchObject({
      code: 'disk-not-possible',
      message: expect.stringMatching(/disk (one|two) cannot .* shared/),
    });
    expect(await leftovers()).toEqual([]);
  });

  it('is left alone on its way to another host, and after it', async () => {
    const { monitor } = machine;
    const atHome = await bench.json(words());
    await monitor.ask('migrate-set-parameters', { 'max-bandwidth': 1000 });
    await monitor.ask('migrate', { uri: 'exec:cat >/dev/null' });
    const refused = { exit: 5, code: 'guest-migrating', object: machine.qmp };
    expect(await bench.error(words())).toMatchObject(refused);
    await monitor.ask('migrate_cancel');
    const status = async () => ((await monitor.ask('query-migrate')) as Json).status;
    for (let turn = 0; turn < 500 && (await status()) !== 'cancelled'; turn++) await delay(10);
    const stays = await bench.json(words());
    expect(stays.disks).toMatchObject([{ read: 0, unchanged: SIZE }]);
    await monitor.ask('migrate-set-parameters', { 'max-bandwidth': 2 ** 30 });
    await monitor.ask('migrate', { uri: 'exec:cat >/dev/null' });
    for (let turn = 0; turn < 500 && (await status()) !== 'completed'; turn++) await delay(10);
    expect(await monitor.ask('query-status')).toMatchObject({ status: 'postmigrate' });
    expect(await bench.error(words())).toMatchObject(refused);
    const { backups } = await bench.json(['list']);
    expect(backups.map(({ backup }: Json) => backup).sort()).toEqual([atHome.backup, stays.backup].sort());
  });
});
