// SPDX-License-Identifier: MIT
// Proves: whatever stands in the way of a move, the guest is served on, loses nothing, is told of, and is moved when it can
// be; of several disks all are moved or none; a guest that stands still stays so.

import { chmodSync, chownSync, closeSync, openSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { ofdTryLock } from '#vmar/src/base/syscalls.js';
import { QmpClient } from '#vmar/src/qmp/qmp-client.js';
import { Bench, type Json } from '../cli/bench.js';
import { makeImage, noise } from '../cli/images.js';
import { fakeMonitor, fakeServer } from '../qmp/fake-line-server.js';
import { guestState } from '../qmp/guest-state.js';
import { haveMachine, type Machine, startMachine } from '../qmp/machine.js';
import { makeVirsh } from '../qmp/virsh-stand-in.js';
import { LiveProcess } from './live-process.js';

const MIB = 1 << 20;
const SIZE = 4 * MIB;
const NOBODY = 65534;
/** "I do not want others to write", by which QEMUs agree; see src/block/image-lock.ts. */
const FORBIDS_WRITE = 201;

const bench = new Bench();
const SOCKET = bench.path('s.sock');
const nbd = (node: string, name: string) =>
  `driver=nbd,node-name=${node},server.type=unix,server.path=${SOCKET},export=${name},reconnect-delay=60`;
const ONE = ['-blockdev', nbd('d0', 'a'), '-device', 'virtio-blk-pci,drive=d0,id=v0'];
const TWO = [
  ...['-device', 'virtio-scsi-pci', '-drive', `file=nbd+unix:///a?socket=${SOCKET},format=raw,if=none,id=d0`],
  ...['-device', 'scsi-hd,drive=d0,id=v0', '-blockdev', nbd('d1', 'b'), '-device', 'scsi-hd,drive=d1,id=v1'],
];

describe.skipIf(!haveMachine('failing moves of guests'))('a move of a guest', () => {
  const images: Record<string, Buffer> = {};
  let live: LiveProcess;
  let machine: Machine | undefined;

  beforeAll(async () => {
    await bench.json(['init', bench.store]);
    for (const name of ['a', 'b']) {
      makeImage(bench.path(`${name}.img`), SIZE, [{ at: 0, bytes: noise(5) }]);
      images[name] = readFileSync(bench.path(`${name}.img`));
    }
    await bench.json(['backup', '100', '--disk', 'a=a.img', '--disk', 'b=b.img']);
    await bench.json(['backup', '200', '--disk', 'a=a.img']);
  });

  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') console.error(live.events, machine?.monitor.events);
    await machine?.kill();
    machine = undefined;
    if (!live.hasEnded) await live.signal('SIGKILL');
    for (const name of ['a', 'b']) {
      for (const end of ['raw', 'raw.vmar-live']) rmSync(bench.path(`${name}.${end}`), { force: true });
    }
    rmSync(SOCKET, { force: true });
    chmodSync(bench.directory, 0o700);
  });

  async function begin(machineWords: readonly string[], ...words: string[]): Promise<Machine> {
    await serve(...words);
    machine = await startMachine(bench.directory, machineWords);
    return machine;
  }

  async function serve(...words: string[]): Promise<void> {
    const guest = words.includes('b=b.raw') ? '100' : '200';
    const more = words.some((word) => word === '--libvirt' || word === '--qmp') ? [] : ['--qmp', 'machine.qmp'];
    live = new LiveProcess(bench, [guest, '--disk', 'a=a.raw', '--socket', 's.sock', ...more, ...words]);
    await live.until('listening');
  }

  const refusal = (code: string): Promise<Json> => live.until('not-switched', (event) => event.code === code);

  async function expectMoved(...names: string[]): Promise<void> {
    await live.until('switched');
    expect(await live.status()).toBe(0);
    const { nodes, edges } = await guestState(machine!.qmp);
    expect(nodes.filter((name) => name.startsWith('vmar-') || /^d\d$/.test(name))).toEqual([]);
    for (const name of names) expect(edges.some((edge) => edge.endsWith(` root restored-${name}`))).toBe(true);
  }

  /** On the export, as before. */
  async function expectUnmoved(): Promise<void> {
    for (let turn = 0; ; turn++) {
      // While it is tried again there are nodes of ours.
      const { nodes, edges } = await guestState(machine!.qmp);
      const ours = nodes.filter((name) => /^(vmar|restored)-/.test(name));
      expect(edges.filter((edge) => / root restored-/.test(edge))).toEqual([]);
      if (ours.length === 0) return;
      if (turn > 20) throw new Error(`left in the guest: ${ours.join(', ')}`);
      await delay(50);
    }
  }

  async function write(device: string, name: string, pattern: number, at: number): Promise<void> {
    await machine!.write(device, pattern, at, 4096);
    images[name]!.fill(pattern, at, at + 4096);
  }

  async function expectContent(...names: string[]): Promise<void> {
    await machine!.kill();
    for (const name of names) expect(readFileSync(bench.path(`${name}.raw`)).equals(images[name]!)).toBe(true);
    for (const name of names) images[name] = readFileSync(bench.path(`${name}.img`));
  }

  it('all disks or none, when QEMU cannot have one of the targets', async () => {
    const guest = await begin(TWO, '--disk', 'b=b.raw', '--speed', '2MiB');
    const lock = openSync(bench.path('b.raw'), 'r');
    ofdTryLock(lock, 'read', FORBIDS_WRITE, 1);
    expect(await refusal('qmp-command-failed')).toMatchObject({ problem: expect.stringMatching(/lock/) });
    await expectUnmoved();
    await write('v0', 'a', 7, MIB);
    await write('v1', 'b', 8, 2 * MIB);
    expect(await guest.monitor.ask('query-status')).toMatchObject({ running: true });
    closeSync(lock);
    await expectMoved('a', 'b');
    await write('v0', 'a', 9, MIB + 4096);
    await write('v1', 'b', 10, 0);
    await expectContent('a', 'b');
  }, 60_000);

  it('that may not open the target waits until it may, and gets no more of it than the disk', async () => {
    writeFileSync(bench.path('a.raw'), '');
    truncateSync(bench.path('a.raw'), SIZE + MIB);
    await begin([...ONE, '-runas', 'nobody']);
    expect(await refusal('target-refused')).toMatchObject({ object: bench.path('a.raw'), advice: expect.any(String) });
    await expectUnmoved();
    chmodSync(bench.directory, 0o711);
    chownSync(bench.path('a.raw'), NOBODY, NOBODY);
    await expectMoved('a');
    const drives = (await machine!.monitor.ask('query-block')) as Json;
    expect(drives[0].inserted.image['virtual-size']).toBe(SIZE);
    await write('/machine/peripheral/v0/virtio-backend', 'a', 3, 8192);
    await machine!.kill();
    expect(readFileSync(bench.path('a.raw')).subarray(0, SIZE).equals(images.a!)).toBe(true);
    images.a = readFileSync(bench.path('a.img'));
  }, 60_000);

  it('leaves one that stands still as it is', async () => {
    const guest = await begin([...ONE, '-S']);
    await expectMoved('a');
    expect(await guest.monitor.ask('query-status')).toMatchObject({ status: 'prelaunch' });
    expect(guest.monitor.events.map(({ event }) => event)).not.toContain('RESUME');
    expect((await live.until('switched')).paused).toBe(0);
  });

  it('waits for its monitor to be free', async () => {
    const guest = await begin(ONE, '--speed', '2MiB');
    const other = await QmpClient.open(guest.qmp);
    expect(await refusal('qmp-busy')).toMatchObject({ object: 'machine.qmp' });
    await other.close();
    await expectMoved('a');
    await expectContent('a');
  }, 40_000);

  it('through libvirt', async () => {
    makeVirsh(bench.path('bin'), bench.path('machine.qmp'));
    const env = { PATH: `${bench.path('bin')}:${process.env.PATH}` };
    live = new LiveProcess(bench, ['200', '--disk', 'a=a.raw', '--socket', 's.sock', '--libvirt', 'web'], env);
    await live.until('listening');
    machine = await startMachine(bench.directory, ONE);
    await expectMoved('a');
    expect(await machine.monitor.ask('query-status')).toMatchObject({ running: true });
    console.log(`through libvirt the guest stood still for ${(await live.until('switched')).paused} s`);
    await expectContent('a');
  }, 60_000);

  it('says which node was looked for, when the guest is another one', async () => {
    const guest = await begin(['-blockdev', nbd('d0', 'a'), '-blockdev', 'driver=null-co,node-name=n0']);
    expect(await refusal('export-not-used')).toMatchObject({
      expected: expect.stringContaining('nbd+unix:///a?socket=s.sock'),
      found: expect.stringContaining('d0'),
    });
    // Not what was restored: the process stays, and the same command goes on with it.
    expect(await live.signal('SIGTERM')).toBe(130);
    await serve();
    await guest.monitor.ask('device_add', { driver: 'virtio-blk-pci', drive: 'd0', id: 'v0', bus: 'pci.0' });
    await expectMoved('a');
    await expectContent('a');
  }, 60_000);

  it('needs a monitor that can do it', async () => {
    writeFileSync(bench.path('file'), '');
    const words = ['--live', '200', '--disk', 'a=a.raw', '--socket', 's.sock'];
    const error = (...more: string[]) => bench.error([...words, ...more], { program: 'vma-restore' });
    expect(await error('--qmp', 'file')).toMatchObject({ exit: 1, code: 'not-qmp' });
    expect(await error('--qmp', 'q', '--libvirt', 'web')).toMatchObject({ exit: 2, code: 'two-monitors' });
    await fakeServer(
      bench.path('old'),
      (socket) => socket.write('{"QMP":{"version":{"qemu":{"major":5,"minor":2,"micro":0}},"capabilities":[]}}\n'),
      (line, socket) => {
        const { execute, id } = JSON.parse(line);
        const version = { qemu: { major: 5, minor: 2, micro: 0 } };
        socket.write(`${JSON.stringify({ return: execute === 'query-version' ? version : {}, id })}\n`);
      },
    );
    await serve('--qmp', 'old');
    expect(await refusal('qemu-too-old')).toMatchObject({ found: 'QEMU 5.2.0', expected: 'QEMU 6.2 or later' });
    await live.signal('SIGTERM');
  });

  it("hints at Proxmox VE's driver where there is one", async () => {
    await fakeMonitor(bench.path('pve'), (command) => {
      if (command === 'query-version') return { return: { qemu: { major: 9, minor: 0, micro: 2 }, package: 'pve' } };
      if (command === 'query-status') return { return: { running: true, status: 'running' } };
      const drivers = { 'meta-type': 'enum', name: '1', values: ['raw', 'alloc-track'] };
      return command === 'query-qmp-schema' ? { return: [drivers] } : { return: [] };
    });
    await serve('--qmp', 'pve');
    expect(await live.until('guest')).toMatchObject({ qemu: '9.0.2', allocTrack: true });
    await live.signal('SIGTERM');
    expect((await live.finished).stderr).toContain('alloc-track');
  });
});
