// SPDX-License-Identifier: MIT
// Proves, with real QEMUs: a guest that writes all the time is moved from the exports to the targets, in whichever way it
// uses them; no write is lost, nothing of ours stays in it, and vma-restore ends with 0.

import { readFileSync, rmSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeAll, describe, expect, it, onTestFailed } from 'vitest';
import { Bench } from '../cli/bench.js';
import { CLUSTER, makeImage, noise } from '../cli/images.js';
import { guestState } from '../qmp/guest-state.js';
import { haveMachine, type Machine, startMachine } from '../qmp/machine.js';
import { LiveProcess } from './live-process.js';
import { acknowledged, BLOCK_BYTES, BLOCKS, bootWords, checkWrites, writeBootDisk } from './switch-writer.js';

const SIZE = BLOCKS * BLOCK_BYTES;
const bench = new Bench();
const SOCKET = bench.path('s.sock');
const NBD = `driver=nbd,server.type=unix,server.path=${SOCKET},export=scsi0,reconnect-delay=600`;
const DRIVE = `file=nbd+unix:///scsi0?socket=${SOCKET},format=raw,file.reconnect-delay=600`;
const RAW = ['-blockdev', `${NBD},node-name=n0`, '-blockdev', 'driver=raw,node-name=d0,file=n0'];
const DIRECT = ['-blockdev', `${NBD},node-name=d0`];
const IOTHREAD = ['-object', 'iothread,id=io0'];
const VIRTIO = ['-device', 'virtio-blk-pci,drive=d0,id=v0,bootindex=2'];
const SCSI = ['-device', 'virtio-scsi-pci', '-device', 'scsi-hd,drive=d0,id=s0,bootindex=2'];
const SCSI_THREAD = [...IOTHREAD, '-device', 'virtio-scsi-pci,iothread=io0', ...SCSI.slice(2)];
const WAYS: Readonly<Record<string, readonly string[]>> = {
  'a raw node over the NBD node (virtio)': [...RAW, ...VIRTIO],
  'the NBD node itself (SCSI)': [...DIRECT, ...SCSI],
  '-drive (IDE)': ['-drive', `${DRIVE},if=none,id=d0`, '-device', 'ide-hd,drive=d0,id=i0,bootindex=2'],
  'an iothread of the disk': [...DIRECT, ...IOTHREAD, '-device', 'virtio-blk-pci,drive=d0,iothread=io0,bootindex=2'],
  'an iothread of the controller': [...DIRECT, ...SCSI_THREAD],
  'a raw node in an iothread of the controller': [...RAW, ...SCSI_THREAD],
};

describe.skipIf(!haveMachine('moving guests to their targets'))('vma-restore --live --qmp', () => {
  let image: Buffer;
  let live: LiveProcess | undefined;
  let machine: Machine | undefined;
  const log = bench.path('log');

  beforeAll(async () => {
    await bench.json(['init', bench.store]);
    makeImage(bench.path('a.raw'), SIZE, [
      { at: 0, bytes: noise(40) },
      { at: 100 * CLUSTER, bytes: noise(20) },
    ]);
    image = readFileSync(bench.path('a.raw'));
    await bench.json(['backup', '100', '--disk', 'scsi0=a.raw']);
    writeBootDisk(bench.path('boot.raw'));
  });

  afterEach(async () => {
    await machine?.kill();
    if (live !== undefined && !live.hasEnded) await live.signal('SIGKILL');
    for (const name of ['t.raw', 't.raw.vmar-live', 's.sock']) rmSync(bench.path(name), { force: true });
  });

  const restore = (...words: string[]) =>
    new LiveProcess(bench, ['100', '--disk', 'scsi0=t.raw', '--socket', 's.sock', ...words]);
  const boot = (...words: string[]) =>
    startMachine(bench.directory, [...bootWords(bench.path('boot.raw'), log), ...words]);

  async function untilWrites(count: number): Promise<void> {
    while (acknowledged(log) < count) await delay(20);
  }

  it.each(Object.entries(WAYS))('by %s', async (_name, words) => {
    onTestFailed(() => console.error(acknowledged(log), live?.events, machine?.monitor.events));
    live = restore('--qmp', 'machine.qmp', '--speed', '8MiB');
    await live.until('listening');
    machine = await boot(...words);
    const { disks, paused } = await live.until('switched');
    expect(await live.status()).toBe(0);
    const before = acknowledged(log);
    console.log('switched', before);
    expect(disks).toMatchObject([{ disk: 'scsi0', node: expect.stringContaining('restored-scsi0') }]);
    await untilWrites(before + 10);
    // Nothing of ours, nor of the export.
    const { nodes, edges } = await guestState(machine.qmp);
    expect(nodes.filter((name) => name.startsWith('vmar') || name === 'n0')).toEqual([]);
    expect(edges.some((edge) => edge.endsWith('restored-scsi0'))).toBe(true);
    expect(await machine.monitor.ask('query-status')).toMatchObject({ running: true });
    const pauses = machine.monitor.events.filter(({ event }) => event === 'STOP' || event === 'RESUME');
    expect(pauses.map(({ event }) => event)).toEqual(['STOP', 'RESUME']);
    expect(paused).toBeCloseTo((pauses[1]!.atMicros - pauses[0]!.atMicros) / 1e6, 4);
    console.log(`${_name}: ${(paused * 1000).toFixed(1)} ms, ${before} writes until then`);
    await machine.monitor.ask('stop');
    const writes = acknowledged(log);
    await machine.kill();
    checkWrites(readFileSync(bench.path('t.raw')), image, writes);
  });
});
