// SPDX-License-Identifier: MIT
// Proves, with a real qemu-system: disks are found by their devices, filters go under these and away again, the guest
// stands still for less than 100 ms, is frozen by its agent where it has one, and never stays paused or frozen.

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Bench, type Json } from '../cli/bench.js';
import { fakeAgent } from './fake-agent.js';
import { type GuestState, guestState } from './guest-state.js';
import { haveMachine, type Machine, startMachine } from './machine.js';
import { makeVirsh } from './virsh-stand-in.js';

const MIB = 1 << 20;
const VIRTIO = '/machine/peripheral/vd0/virtio-backend';

describe.skipIf(!haveMachine('backups of running machines'))('vmar backup --qmp of a machine', () => {
  const bench = new Bench();
  let machine: Machine;
  let before: GuestState;

  beforeEach(async () => {
    for (const name of ['fleece', 'store', 'cache']) rmSync(bench.path(name), { recursive: true, force: true });
    mkdirSync(bench.path('fleece'));
    spawnSync('qemu-img', ['create', '-q', '-f', 'qcow2', bench.path('a.qcow2'), '8M']);
    spawnSync('qemu-img', ['create', '-q', '-f', 'raw', bench.path('b.raw'), '4M']);
    spawnSync('qemu-img', ['create', '-q', '-f', 'raw', bench.path('ro.raw'), '1M']);
    machine = await startMachine(bench.directory, [
      ...['-blockdev', `driver=qcow2,node-name=a,file.driver=file,file.filename=${bench.path('a.qcow2')}`],
      ...['-device', 'virtio-blk-pci,drive=a,id=vd0'],
      ...['-device', 'virtio-scsi-pci'],
      ...['-drive', `if=none,id=drive-scsi0,format=raw,file=${bench.path('b.raw')}`],
      ...['-device', 'scsi-hd,drive=drive-scsi0,id=scsi0'],
      ...['-drive', `if=none,id=ro,format=raw,readonly=on,file=${bench.path('ro.raw')}`],
      ...['-device', 'scsi-hd,drive=ro,id=scsi1'],
      ...['-device', 'scsi-cd,id=cd0'],
    ]);
    before = await guestState(machine.qmp);
    await bench.json(['init', 'store']);
  });

  afterEach(async () => {
    await machine.kill();
  });

  const words = (...more: string[]) => [
    ...['backup', '100', '--qmp', machine.qmp, '--fleece', bench.path('fleece')],
    ...more,
  ];

  async function expectUntouched(bitmaps: readonly string[]): Promise<void> {
    expect(await guestState(machine.qmp)).toEqual({ ...before, bitmaps });
    expect(readdirSync(bench.path('fleece'))).toEqual([]);
    expect(await machine.monitor.ask('query-status')).toMatchObject({ running: true });
  }

  async function expectContent(backup: string, disk: string, content: Buffer): Promise<void> {
    rmSync(bench.path('out'), { recursive: true, force: true });
    await bench.json(['restore', backup, '--to', 'out']);
    expect(readFileSync(bench.path('out', `${disk}.raw`)).equals(content)).toBe(true);
  }

  const show = (backup: string): Promise<Json> => bench.json(['show', backup]);
  const bitmapsNow = async () => (await guestState(machine.qmp)).bitmaps;

  it('in full, then what changed', async () => {
    const contents = { vd0: Buffer.alloc(8 * MIB), 'drive-scsi0': Buffer.alloc(4 * MIB) };
    const write = async (disk: keyof typeof contents, pattern: number, at: number, length: number) => {
      await machine.write(disk === 'vd0' ? VIRTIO : 'scsi0', pattern, at, length);
      contents[disk].fill(pattern, at, at + length);
    };
    await write('vd0', 1, 0, MIB);
    await write('drive-scsi0', 2, 65536, 12288);
    const running = await bench.run(['--json', ...words()]);
    expect(running.stderr).toMatch(/ro is not backed up: read-only/);
    expect(running.stderr).toMatch(/cd0 is not backed up: an empty removable drive/);
    const { backup, disks } = running.json();
    expect(disks.map(({ name }: Json) => name).sort()).toEqual(['drive-scsi0', 'vd0']);
    for (const [disk, content] of Object.entries(contents)) await expectContent(backup, disk, content);
    expect(await show(backup)).toMatchObject({ source: 'qemu', consistency: 'crash' });
    const bitmaps = await bitmapsNow();
    expect(bitmaps.length).toBe(2);
    await expectUntouched(bitmaps);

    await write('vd0', 3, 2 * MIB, 4096);
    await write('drive-scsi0', 4, 4 * MIB - 512, 512);
    const second = await bench.json(words());
    for (const disk of second.disks) expect(disk).toMatchObject({ read: 65536, zero: 0 });
    for (const [disk, content] of Object.entries(contents)) await expectContent(second.backup, disk, content);
    await expectUntouched(bitmaps);

    const paranoid = await bench.json(words('--paranoid', '--exclude', 'scsi0'));
    expect(paranoid.disks).toMatchObject([{ name: 'vd0', read: 8 * MIB, new: 0 }]);

    const pauses = machine.monitor.events.filter(({ event }) => event === 'STOP' || event === 'RESUME');
    expect(pauses.map(({ event }) => event)).toEqual(['STOP', 'RESUME', 'STOP', 'RESUME', 'STOP', 'RESUME']);
    const millis = [0, 2, 4].map((at) => (pauses[at + 1]!.atMicros - pauses[at]!.atMicros) / 1000);
    console.log(`the guest stood still for ${millis.map((one) => one.toFixed(1)).join(', ')} ms`);
    // What is told is what QEMU's own events say.
    const told = [running.json(), second, paranoid].map(({ pauseSeconds }) => Math.round(pauseSeconds * 1e6));
    expect(told).toEqual([0, 2, 4].map((at) => pauses[at + 1]!.atMicros - pauses[at]!.atMicros));
  });

  it('of more disks than ten without a warning of Node', async () => {
    await machine.kill();
    const disks = Array.from({ length: 12 }, (_, at) => [
      ...['-blockdev', `driver=null-co,node-name=n${at},size=${MIB},read-zeroes=on`],
      ...['-device', `scsi-hd,drive=n${at},id=many${at}`],
    ]);
    machine = await startMachine(bench.directory, ['-device', 'virtio-scsi-pci', ...disks.flat()]);
    const { status, stderr } = await bench.run(['--json', ...words()]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  });

  it('of disks that can be pulled out, and not of floppies', async () => {
    await machine.kill();
    const raw = (name: string) => `driver=file,node-name=${name},filename=${bench.path(`${name}.raw`)}`;
    for (const name of ['card', 'stick', 'floppy']) {
      spawnSync('qemu-img', [
        'create',
        '-q',
        '-f',
        'raw',
        bench.path(`${name}.raw`),
        name === 'floppy' ? '1440k' : '2M',
      ]);
    }
    machine = await startMachine(bench.directory, [
      ...['-blockdev', raw('card'), '-device', 'sdhci-pci', '-device', 'sd-card,drive=card,id=card'],
      ...[
        '-blockdev',
        raw('stick'),
        '-device',
        'virtio-scsi-pci',
        '-device',
        'scsi-hd,drive=stick,id=stick,removable=on',
      ],
      ...['-blockdev', raw('floppy'), '-device', 'floppy,drive=floppy'],
    ]);
    before = await guestState(machine.qmp);
    const contents = { card: Buffer.alloc(2 * MIB), stick: Buffer.alloc(2 * MIB) };
    for (const pattern of [1, 2]) {
      for (const disk of ['card', 'stick'] as const) {
        await machine.write(disk, pattern, pattern * 65536, 65536);
        contents[disk].fill(pattern, pattern * 65536, (pattern + 1) * 65536);
      }
      const { backup, disks, skipped } = await bench.json(words());
      if (pattern === 2) expect(disks).toMatchObject([{ read: 65536 }, { read: 65536 }]);
      expect(skipped).toMatchObject([{ reason: expect.stringContaining('floppy') }]);
      for (const [disk, content] of Object.entries(contents)) await expectContent(backup, disk, content);
    }
    await expectUntouched(await bitmapsNow());
  });

  it('and says which disks another program serves', async () => {
    await machine.kill();
    const [image, socket] = [bench.path('b.raw'), bench.path('user.sock')];
    const daemon = spawn('qemu-storage-daemon', [
      ...['--blockdev', `driver=file,node-name=u,filename=${image}`],
      ...['--export', `type=vhost-user-blk,id=u,node-name=u,addr.type=unix,addr.path=${socket},writable=on`],
    ]);
    try {
      while (!existsSync(socket)) await delay(10);
      machine = await startMachine(bench.directory, [
        ...['-object', 'memory-backend-memfd,id=memory,size=64M,share=on', '-machine', 'memory-backend=memory'],
        ...['-chardev', `socket,id=user,path=${socket}`, '-device', 'vhost-user-blk-pci,chardev=user,id=data'],
        ...['-blockdev', `driver=qcow2,node-name=a,file.driver=file,file.filename=${bench.path('a.qcow2')}`],
        ...['-device', 'virtio-blk-pci,drive=a,id=vd0'],
      ]);
      const { disks, skipped } = await bench.json(words());
      expect(disks).toMatchObject([{ name: 'vd0' }]);
      expect(skipped).toEqual([{ name: 'data', reason: expect.stringContaining('vhost-user-blk') }]);
      expect(await bench.error(words('--include', 'data'))).toMatchObject({ exit: 2, code: 'disk-not-possible' });
    } finally {
      daemon.kill('SIGKILL');
    }
  });

  it('frozen by its agent', async () => {
    const agent = await fakeAgent(bench.path('agent'), 50);
    const { backup } = await bench.json(words('--agent', bench.path('agent')));
    expect(agent.asked).toEqual(['guest-fsfreeze-freeze', 'guest-fsfreeze-status', 'guest-fsfreeze-thaw']);
    expect(await show(backup)).toMatchObject({ consistency: 'agent-frozen' });
    await expectUntouched(await bitmapsNow());
  });

  it('crash-consistent, and said so, when there is no agent', async () => {
    const none = await bench.run(['--json', ...words('--agent', bench.path('none'))]);
    expect(none.stderr).toMatch(/not frozen, so the backup is crash-consistent: there is no such socket/);
    expect(await show(none.json().backup)).toMatchObject({ consistency: 'crash' });
  });

  it('goes on, and is thawed, after kill -9 of vmar while it is frozen', async () => {
    const agent = await fakeAgent(bench.path('agent'), 1500);
    const { child, finished } = bench.start(words('--agent', bench.path('agent')));
    while (!agent.asked.includes('guest-fsfreeze-freeze')) await delay(10);
    child.kill('SIGKILL');
    await finished;
    while (!agent.asked.includes('guest-fsfreeze-thaw')) await delay(10);
    expect(await machine.monitor.ask('query-status')).toMatchObject({ running: true });
    // The next one clears up.
    await bench.json(words());
    await expectUntouched(await bitmapsNow());
  });

  it('goes on though the guardian was killed in the window', async () => {
    const run = 'vmar-vm_100-00000000';
    mkdirSync(bench.path('fleece', run));
    writeFileSync(bench.path('fleece', run, 'lock'), '');
    const lock = { driver: 'file', 'node-name': 'vmar-run', filename: bench.path('fleece', run, 'lock') };
    await machine.monitor.ask('blockdev-add', { ...lock, 'read-only': true });
    await machine.monitor.ask('blockdev-add', { driver: 'null-co', 'node-name': 'vmar-0badcafe-0-m0', size: 0 });
    await machine.monitor.ask('stop');
    await bench.json(words());
    await expectUntouched(await bitmapsNow());
  });

  it('leaves a disk alone on which a job of QEMU works', async () => {
    const target = bench.path('mirror.raw');
    const mirror = { 'job-id': 'moving', device: 'drive-scsi0', target, format: 'raw', sync: 'full', speed: 4096 };
    await machine.write('scsi0', 1, 0, 4 * MIB);
    await machine.monitor.ask('drive-mirror', mirror);
    const during = await guestState(machine.qmp);
    expect(await bench.error(words())).toMatchObject({
      exit: 5,
      code: 'disk-busy',
      message: "QEMU's block job moving works on disk drive-scsi0",
    });
    expect(await guestState(machine.qmp)).toEqual(during);
    expect((await bench.json(words('--exclude', 'scsi0'))).disks.map(({ name }: Json) => name)).toEqual(['vd0']);
    await machine.monitor.ask('block-job-cancel', { device: 'moving', force: true });
    while (((await machine.monitor.ask('query-block-jobs')) as unknown[]).length > 0) await delay(10);
    expect((await bench.json(words())).disks.length).toBe(2);
    await expectUntouched(await bitmapsNow());
  });

  it('takes what others export for no further disks', async () => {
    const path = bench.path('others');
    await machine.monitor.ask('nbd-server-start', { addr: { type: 'unix', data: { path } } });
    await machine.monitor.ask('block-export-add', { type: 'nbd', id: 'others', 'node-name': 'a', name: 'a' });
    const { disks } = await bench.json(words());
    expect(disks.map(({ name }: Json) => name).sort()).toEqual(['drive-scsi0', 'vd0']);
    expect((await guestState(machine.qmp)).exports).toEqual(['others']);
    await machine.monitor.ask('nbd-server-stop');
    await expectUntouched(await bitmapsNow());
  });

  it('of two at the same time is made once', async () => {
    await bench.json(['init', 'other']);
    const both = [words(), ['--datastore', bench.path('other'), ...words()]].map((all) =>
      bench.run(['--json', ...all]),
    );
    const ends = await Promise.all(both);
    for (const { status, text } of ends) {
      if (status !== 0) expect(JSON.parse(text).error).toMatchObject({ exit: 5 });
    }
    expect(ends.some(({ status }) => status === 0)).toBe(true);
    expect(await machine.monitor.ask('query-status')).toMatchObject({ running: true });
    expect((await guestState(machine.qmp)).edges).toEqual(before.edges);
    expect(readdirSync(bench.path('fleece'))).toEqual([]);
  });

  it('ends when its QEMU is killed at any moment, and leaves nothing on the host', async () => {
    for (const millis of [200, 350, 500]) {
      // Four seconds' worth: none of them is done before.
      await machine.write(VIRTIO, 7, 0, 8 * MIB);
      const { finished } = bench.start(['--json', ...words('--speed', '2MiB')]);
      await delay(millis);
      machine.child.kill('SIGKILL');
      const { status, text, stderr } = await finished;
      expect(status).toBe(1);
      expect(stderr).not.toContain('trying for 0 seconds');
      expect(JSON.parse(text).error.code).toMatch(/^(qmp|nbd|connection|read|guardian|snapshot)-/);
      expect(readdirSync(bench.path('fleece'))).toEqual([]);
      await machine.kill();
      machine = await startMachine(bench.directory, [
        ...['-blockdev', `driver=qcow2,node-name=a,file.driver=file,file.filename=${bench.path('a.qcow2')}`],
        ...['-device', 'virtio-blk-pci,drive=a,id=vd0'],
      ]);
    }
    expect((await bench.json(words())).disks.length).toBe(1);
  });

  it('that stands still is left so', async () => {
    await machine.monitor.ask('stop');
    await bench.json(words());
    expect(await machine.monitor.ask('query-status')).toMatchObject({ status: 'paused' });
    expect(await guestState(machine.qmp)).toMatchObject({ edges: before.edges });
  });

  it('refused where an iothread would make QEMU crash', async (context) => {
    await machine.kill();
    machine = await startMachine(bench.directory, [
      ...['-object', 'iothread,id=io0', '-device', 'virtio-scsi-pci,iothread=io0'],
      ...['-blockdev', 'driver=null-co,node-name=n0,size=1048576', '-device', 'scsi-hd,drive=n0,id=one'],
      ...['-blockdev', 'driver=null-co,node-name=n1,size=1048576'],
      ...['-device', 'virtio-blk-pci,drive=n1,id=two,iothread=io0'],
      ...['-blockdev', 'driver=null-co,node-name=n2,size=1048576', '-device', 'virtio-blk-pci,drive=n2,id=three'],
    ]);
    before = await guestState(machine.qmp);
    const { qemu } = (await machine.monitor.ask('query-version')) as { qemu: { major: number } };
    if (qemu.major >= 9) return context.skip();
    expect(await bench.error(words())).toMatchObject({
      code: 'iothread-unsafe',
      message: expect.stringContaining('one, two'),
    });
    expect((await bench.json(words('--exclude', 'one', '--exclude', 'two'))).disks.length).toBe(1);
    await expectUntouched(await bitmapsNow());
  });

  it('through libvirt', async () => {
    makeVirsh(bench.path('bin'), machine.qmp);
    const env = { PATH: `${bench.path('bin')}:${process.env.PATH}` };
    const fleece = ['--fleece', bench.path('fleece')];
    const { disks } = await bench.json(['backup', '100', '--libvirt', 'web', ...fleece], { env });
    expect(disks.length).toBe(2);
    await expectUntouched(await bitmapsNow());
  });
});
