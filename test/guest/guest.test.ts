// SPDX-License-Identifier: MIT
// Proves with a real guest, Debian's cloud kernel and a small Debian system under TCG, that the whole way works: it is backed
// up while it writes, its disks are destroyed, it boots from the backup to its login prompt before the restore is done, what
// it writes meanwhile stays, and in the end it runs on its own disks alone, with file systems that need no repair.

import { mkdirSync, rmSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bench, type Json } from '../cli/bench.js';
import { haveMachine } from '../qmp/machine.js';
import { checkFileSystems, checkLedger, type DiskFiles } from './disk-check.js';
import { DATA_DISK, type Guest, ROOT_DISK, startGuest } from './guest.js';
import { type GuestImages, makeImages } from './images.js';
import { acknowledged, expectNoIoErrors, startLedger, startWriting, tellFelt } from './load.js';
import { type GuestPackages, guestPackages } from './packages.js';
import { tool } from './tool.js';

const UNTESTED = 'backup and live restore of a real guest';

function packagesOrWhy(): GuestPackages | undefined {
  if (!haveMachine(UNTESTED)) return undefined;
  try {
    return guestPackages();
  } catch (error) {
    console.warn(`\n!!! NOT TESTED: ${UNTESTED}: ${error instanceof Error ? error.message : error}\n`);
    return undefined;
  }
}

const packages = packagesOrWhy();
const bench = new Bench();
let images: GuestImages;
let guest: Guest;
let bootMillis = 0;

beforeAll(async () => {
  if (packages === undefined) return;
  images = makeImages(packages, bench.directory);
  tool('qemu-img', ['convert', '-O', 'qcow2', images.root, bench.path('root.qcow2')]);
  await bench.json(['init', 'store']);
  mkdirSync(bench.path('fleece'));
});

afterAll(async () => {
  await guest?.kill();
});

const restored = (name: string): DiskFiles => ({
  root: bench.path(name, `${ROOT_DISK}.raw`),
  data: bench.path(name, `${DATA_DISK}.raw`),
});

const backup = (...more: string[]): Promise<Json> =>
  bench.json(['backup', '100', '--qmp', guest.machine.qmp, '--fleece', bench.path('fleece'), ...more]);

function pausesMillis(): number[] {
  const pauses = guest.machine.monitor.events.filter(({ event }) => event === 'STOP' || event === 'RESUME');
  return pauses.flatMap(({ event, atMicros }, at) =>
    event === 'RESUME' && pauses[at - 1]?.event === 'STOP' ? [(atMicros - pauses[at - 1]!.atMicros) / 1000] : [],
  );
}

describe.skipIf(packages === undefined)('a real guest', () => {
  it('boots to its login prompt', async () => {
    const began = Date.now();
    guest = await startGuest(bench.directory, images, {
      root: `driver=qcow2,node-name=root,discard=unmap,file.driver=file,file.filename=${bench.path('root.qcow2')}`,
      data: `driver=raw,node-name=data,discard=unmap,file.driver=file,file.filename=${images.data}`,
    });
    await guest.untilLogin();
    bootMillis = Date.now() - began;
    await guest.console.logIn();
    console.info(`booted in ${(bootMillis / 1000).toFixed(1)} s`);
    await startLedger(guest.console);
    const writing = await startWriting(guest.console);
    await guest.console.do('sleep 6');
    tellFelt('without a backup', await writing.end());
  });

  it('is backed up in full while it writes, frozen by its agent', async () => {
    const writing = await startWriting(guest.console);
    const least = await acknowledged(guest.console);
    const made = await backup('--agent', guest.agent, '--speed', '32MiB');
    const most = (await acknowledged(guest.console)) + 1;
    tellFelt(`during the full backup of ${made.seconds.toFixed(1)} s`, await writing.end());
    expect(await bench.json(['show', made.backup])).toMatchObject({ consistency: 'agent-frozen', source: 'qemu' });
    await bench.json(['restore', made.backup, '--to', 'first']);
    checkFileSystems(restored('first'), 'clean');
    checkLedger(restored('first'), least, most);
    await expectNoIoErrors(guest.console);
  });

  it('and then only what changed, as after a crash', async () => {
    const writing = await startWriting(guest.console);
    const least = await acknowledged(guest.console);
    const made = await backup();
    const most = (await acknowledged(guest.console)) + 1;
    tellFelt(`during the incremental backup of ${made.seconds.toFixed(1)} s`, await writing.end());
    expect(await bench.json(['show', made.backup])).toMatchObject({ consistency: 'crash' });
    for (const disk of made.disks) expect(disk.fullReason).toBeUndefined();
    await bench.json(['restore', made.backup, '--to', 'second']);
    checkFileSystems(restored('second'), 'crashed');
    checkLedger(restored('second'), least, most);
    await expectNoIoErrors(guest.console);
    const pauses = pausesMillis();
    console.info(`stood still for ${pauses.map((one) => one.toFixed(1)).join(', ')} ms`);
    expect(pauses.length).toBe(2);
    expect(Math.max(...pauses)).toBeLessThan(100);
    for (const name of ['first', 'second']) rmSync(bench.path(name), { recursive: true });
  });
});
