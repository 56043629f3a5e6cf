// SPDX-License-Identifier: MIT
// Proves with a real guest, Debian's cloud kernel and a small Debian system under TCG, that the whole way works: it is backed
// up while it writes, its disks are destroyed, it boots from the backup to its login prompt before the restore is done, what
// it writes meanwhile stays, and in the end it runs on its own disks alone, with file systems that need no repair.

import { readdirSync, rmSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Json } from '../cli/bench.js';
import { mountSmallDisk } from '../crash/small-disk.js';
import type { LiveProcess } from '../live/live-process.js';
import { haveMachine } from '../qmp/machine.js';
import { checkFileSystems, checkLedger, readGuestFile } from './disk-check.js';
import { acknowledged, expectNoIoErrors, startLedger, startWriting, tellFelt } from './load.js';
import { type GuestPackages, guestPackages } from './packages.js';
import { World } from './world.js';

const UNTESTED = 'backup and live restore of a real guest';
/** A restore takes so many times as long as the first boot, and no less than this: the guest is there long before the end. */
const RESTORE_PER_BOOT = 4;
const LEAST_RESTORE_SECONDS = 40;
/** What the system takes on its disk, about. */
const SYSTEM_BYTES = 230e6;
const NOTE = 'written while the restore ran';

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

describe.skipIf(packages === undefined)('a real guest', () => {
  const world = new World();
  const { bench } = world;
  const hasSmallDisk = mountSmallDisk('tmpfs', bench.path('small'), 2);
  let latest = '';
  let speed = '';
  /** What the ledger held when the guest's disks were last looked at. */
  let least = 0;

  beforeAll(() => world.prepare(packages!));

  afterAll(async () => {
    await world.guest?.kill();
  });

  const show = (backup: string): Promise<Json> => bench.json(['show', backup]);

  it('boots to its login prompt', async () => {
    const guest = await world.boot(world.originalDisks);
    const seconds = Math.max(LEAST_RESTORE_SECONDS, (RESTORE_PER_BOOT * world.bootMillis) / 1000);
    speed = `${Math.ceil(SYSTEM_BYTES / seconds / 1024)}KiB`;
    console.info(`booted in ${(world.bootMillis / 1000).toFixed(1)} s; restores will go at ${speed} a second`);
    await startLedger(guest.console);
    const writing = await startWriting(guest.console);
    await guest.console.do('sleep 6');
    tellFelt('without a backup', await writing.end());
  });

  it('is backed up in full while it writes, frozen by its agent', async () => {
    const { guest } = world;
    const doomed = '/data/doomed';
    await guest.console.do(`seq 1000000 1999999 >${doomed}`);
    const writing = await startWriting(guest.console);
    least = await acknowledged(guest.console);
    const making = world.backup('--agent', guest.agent, '--speed', '32MiB');
    await Promise.race([making, world.untilMoment()]);
    // Long before the data disk is read, which comes last.
    await guest.console.do(`rm ${doomed} && sync && fstrim /data`);
    const made = await making;
    const most = (await acknowledged(guest.console)) + 1;
    tellFelt(`during the full backup of ${made.seconds.toFixed(1)} s`, await writing.end());
    expect(await show(made.backup)).toMatchObject({ consistency: 'agent-frozen', source: 'qemu' });
    await bench.json(['restore', made.backup, '--to', 'first']);
    checkFileSystems(world.filesIn('first'), 'clean');
    checkLedger(world.filesIn('first'), least, most);
    const saved = readGuestFile(world.filesIn('first').data, '/doomed').toString('latin1').split('\n');
    expect(saved.length).toBe(1_000_001);
    expect(saved.findIndex((line, at) => line !== String(1_000_000 + at))).toBe(1_000_000);
    await expectNoIoErrors(guest.console);
    rmSync(bench.path('first'), { recursive: true });
  });

  it.skipIf(!hasSmallDisk)('feels nothing of a fleecing directory that is too small', async () => {
    const { guest } = world;
    const writing = await startWriting(guest.console);
    const error = await bench.error([...world.backupWords('small'), '--speed', '2MiB']);
    tellFelt('during a backup that broke', await writing.end());
    expect(error).toMatchObject({ code: 'snapshot-broken', exit: 1 });
    expect(await acknowledged(guest.console)).toBeGreaterThan(least);
    await expectNoIoErrors(guest.console);
    expect(readdirSync(bench.path('small'))).toEqual([]);
    expect(await world.filesInUse()).toEqual([
      expect.stringMatching(/data\.raw$/),
      expect.stringMatching(/root\.qcow2$/),
    ]);
  });

  it('and then only what changed, as after a crash', async () => {
    const { guest } = world;
    const writing = await startWriting(guest.console);
    least = await acknowledged(guest.console);
    const made = await world.backup();
    const most = (await acknowledged(guest.console)) + 1;
    tellFelt(`during the incremental backup of ${made.seconds.toFixed(1)} s`, await writing.end());
    const { consistency, disks } = await show(made.backup);
    expect(consistency).toBe('crash');
    for (const disk of disks) {
      expect(disk.fullReason).toBeUndefined();
      expect(disk.read).toBeLessThan(disk.size / 2);
    }
    await bench.json(['restore', made.backup, '--to', 'second']);
    checkFileSystems(world.filesIn('second'), 'crashed');
    checkLedger(world.filesIn('second'), least, most);
    await expectNoIoErrors(guest.console);
    const pauses = world.pausesMillis;
    console.info(`stood still for ${pauses.map((one) => one.toFixed(1)).join(', ')} ms`);
    expect(pauses.length).toBe(hasSmallDisk ? 3 : 2);
    // One of them may meet a busy host.
    expect(pauses.toSorted((one, other) => one - other)[1]).toBeLessThan(100);
    rmSync(bench.path('second'), { recursive: true });
    latest = made.backup;
  });

  it('whose disks are destroyed boots from the backup before that is restored, and moves to its own disks', async () => {
    await world.destroy();
    const live = world.liveRestore(latest, 'own', '--speed', speed, '--qmp', world.monitor);
    await live.until('listening');
    const guest = await world.boot(world.exportedDisks());
    const held = await expectUnfinished(live);
    console.info(`booted in ${(world.bootMillis / 1000).toFixed(1)} s from the export, with ${held} restored by then`);
    await guest.console.do(`echo '${NOTE}' >/root/note && sync && fstrim /`);
    await expectUnfinished(live);
    const boot = await guest.console.do('cat /proc/sys/kernel/random/boot_id');
    await startLedger(guest.console);
    const writing = await startWriting(guest.console, { compare: true });
    await live.until('done');
    const switched = await live.until('switched');
    expect(await live.status()).toBe(0);
    least = await acknowledged(guest.console);
    await guest.console.do('sleep 1');
    expect(await acknowledged(guest.console)).toBeGreaterThan(least);
    tellFelt('during a live restore and the move', await writing.end());
    console.info(`moved, and stood still for ${(switched.paused * 1000).toFixed(1)} ms`);
    expect(await guest.console.do('cat /proc/sys/kernel/random/boot_id')).toBe(boot);
    const { root, data } = world.filesIn('own');
    expect(await world.filesInUse()).toEqual([root, data].sort());
    expect(world.pausesMillis.length).toBe(1);
    await expectNoIoErrors(guest.console);
    least = await acknowledged(guest.console);
    await guest.powerOff();
    checkFileSystems(world.filesIn('own'), 'clean');
  });

  it('boots from its own disks alone, with all that it wrote', async () => {
    const guest = await world.boot(world.localDisks('own'));
    expect(await guest.console.do('cat /root/note')).toBe(NOTE);
    await expectNoIoErrors(guest.console);
    await guest.powerOff();
    checkFileSystems(world.filesIn('own'), 'clean');
    checkLedger(world.filesIn('own'), least);
    expect(readGuestFile(world.filesIn('own').root, '/root/note').toString()).toBe(`${NOTE}\n`);
  });

  it('goes on when its live restore is killed and started again', async () => {
    rmSync(bench.path('own'), { recursive: true });
    const killed = world.liveRestore(latest, 'again', '--speed', speed);
    await killed.until('listening');
    const guest = await world.boot(world.exportedDisks());
    await startLedger(guest.console);
    const writing = await startWriting(guest.console, { compare: true });
    await expectUnfinished(killed);
    await killed.signal('SIGKILL');
    // It waits for its disks now.
    await delay(2000);
    const live = world.liveRestore(latest, 'again', '--qmp', world.monitor);
    expect(await live.until('listening')).toMatchObject({ disks: [{ resumed: true }, { resumed: true }] });
    least = await acknowledged(guest.console);
    await live.until('switched');
    expect(await live.status()).toBe(0);
    tellFelt('during a live restore that was killed', await writing.end());
    expect(await acknowledged(guest.console)).toBeGreaterThan(least);
    await expectNoIoErrors(guest.console);
    least = await acknowledged(guest.console);
    await guest.powerOff();
    checkFileSystems(world.filesIn('again'), 'clean');
    checkLedger(world.filesIn('again'), least);
  });
});

/** Something is still to be restored at a moment after the call; gives how much is there, for people. */
async function expectUnfinished(live: LiveProcess): Promise<string> {
  const known = live.events.length;
  const { held, size } = await live.until('progress', (event) => live.events.indexOf(event) >= known);
  expect(held).toBeLessThan(size);
  expect(live.events.some(({ event }) => event === 'done')).toBe(false);
  return `${((100 * held) / size).toFixed(0)} %`;
}
