// SPDX-License-Identifier: MIT
// Backups by the dirty bitmaps of NBD exports, with the real program and a real qemu-storage-daemon: nights of one guest,
// compared to the byte, and everything that keeps a bitmap from being used.

import { mkdirSync, readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseBackup } from '#vmar/src/cli/backup-wish.js';
import { seededRandom } from '../base/random.js';
import { haveTool } from '../base/scratch.js';
import { nbdkit } from '../nbd/client/servers.js';
import { Bench, type Json } from './bench.js';
import { FleecedGuest, type NightOptions } from './fleeced-guest.js';

const CLUSTER = 65536;
/** Not whole clusters. */
const LENGTH = 100 * CLUSTER + 3 * 512;

describe.skipIf(!haveTool('qemu-storage-daemon', 'backups by dirty bitmaps'))('bitmaps of exports', () => {
  let bench: Bench;
  let guest: FleecedGuest;
  let restores = 0;

  beforeEach(async () => {
    bench = new Bench();
    mkdirSync(bench.path('guest'));
    guest = await FleecedGuest.start(bench.path('guest'), LENGTH);
    await bench.json(['init', 'store']);
  });
  afterEach(() => guest.stop());

  const words = (uri: string, bitmap: NightOptions['bitmap'], more: readonly string[] = []) => [
    ...['backup', '100', '--disk', `drive-scsi0=${uri}`],
    ...(bitmap === undefined ? [] : ['--bitmap', `scsi0=${bitmap.name}:${bitmap.mode}`]),
    ...more,
  ];

  /** One night: the guest writes on while it is backed up. */
  async function night(
    bitmap: NightOptions['bitmap'],
    more: readonly string[] = [],
    { quiet = false, ...options }: NightOptions & { quiet?: boolean } = {},
  ) {
    const uri = await guest.evening({ ...options, ...(bitmap === undefined ? {} : { bitmap }) });
    const truth = await guest.content();
    const running = bench.json(words(uri, bitmap, more));
    if (!quiet) await guest.write(7 * CLUSTER + 4096, Buffer.alloc(8192, restores + 100));
    const document: Json = await running;
    await guest.morning(true);
    return { document, truth, disk: document.disks[0] };
  }

  async function expectRestored(backup: string, truth: Buffer): Promise<void> {
    const target = bench.path(`restored-${restores++}`);
    await bench.json(['restore', backup, '--disk', `drive-scsi0=${target}`]);
    expect(readFileSync(target).equals(truth)).toBe(true);
  }

  async function failedNight(bitmap: NonNullable<NightOptions['bitmap']>, more: readonly string[] = []) {
    const uri = await guest.evening({ bitmap });
    const error = await bench.error(words(uri, bitmap, more));
    await guest.morning(false);
    return error;
  }

  const NEW = { name: 'bk', mode: 'new' } as const;
  const REUSE = { name: 'bk', mode: 'reuse' } as const;

  it.each([11])('seed %i: nights of random writes, each equal to the disk at its moment', async (seed) => {
    const random = seededRandom(seed);
    await guest.write(0, random.bytes(60 * CLUSTER));
    await guest.write(LENGTH - 512, Buffer.alloc(512, 9));
    const nights = [await night(NEW)];
    for (let count = 0; count < 3; count++) {
      let most = 8192;
      for (let change = 0; change < 12; change++) {
        const blocks = random.integer(1, 12);
        const at = random.integer(0, LENGTH / 512 - blocks) * 512;
        if (random.oneIn(4)) await guest.trim(at, blocks * 512);
        else await guest.write(at, random.bytes(blocks * 512));
        most += 2 * CLUSTER;
      }
      if (count === 1) await guest.write(LENGTH - 1024, random.bytes(1024));
      nights.push(await night(REUSE, ['--parent', nights.at(-1)!.document.backup]));
      const { disk } = nights.at(-1)!;
      expect(disk.read + disk.zero).toBeLessThanOrEqual(most + 2 * CLUSTER);
      expect(disk.read + disk.zero + disk.unchanged).toBeGreaterThanOrEqual(LENGTH);
    }
    for (const { document, truth } of nights) await expectRestored(document.backup, truth);
    expect(await bench.json(['show', '100'])).toMatchObject({ disks: [{ bitmap: 'bk' }], source: 'nbd' });
    expect(await bench.json(['verify'])).toMatchObject({ ok: true });
  });

  it('a night without a change reads nothing', async () => {
    await guest.write(CLUSTER, Buffer.alloc(9 * CLUSTER, 5));
    await night(NEW);
    await night(REUSE, [], { quiet: true });
    const uri = await guest.evening({ bitmap: REUSE });
    const { disks } = await bench.json(words(uri, REUSE));
    expect(disks[0]).toMatchObject({ read: 0, new: 0, unchanged: LENGTH, zero: 0 });
    await guest.morning(true);
  });

  it('a failed night loses no change', async () => {
    await guest.write(0, Buffer.alloc(20 * CLUSTER, 5));
    await night(NEW);
    await guest.write(3 * CLUSTER + 512, Buffer.alloc(512, 6));
    expect(await failedNight(REUSE, ['--parent', 'vm/100/2020-01-01T00:00:00Z'])).toMatchObject({
      ...{ exit: 1, code: 'no-usable-parent' },
    });
    await guest.write(5 * CLUSTER, Buffer.alloc(512, 7));
    const { document, truth } = await night(REUSE);
    await expectRestored(document.backup, truth);
  });

  it('a bitmap is not taken to follow a backup once a later one was removed', async () => {
    await guest.write(0, Buffer.alloc(20 * CLUSTER, 5));
    const first = await night(NEW);
    await guest.write(3 * CLUSTER, Buffer.alloc(512, 6));
    await night(REUSE);
    await bench.json(['forget', '100']);
    await guest.write(5 * CLUSTER, Buffer.alloc(512, 7));
    expect(await failedNight(REUSE)).toMatchObject({
      ...{ exit: 1, code: 'no-usable-parent', message: expect.stringContaining('later') },
    });
    // Other changes beside the manifest keep what is known.
    await bench.json(['notes', first.document.backup, '--set', 'kept']);
    await bench.json(['protect', first.document.backup]);
    expect(await failedNight(REUSE)).toMatchObject({ exit: 1, code: 'no-usable-parent' });
    const { document, truth } = await night({ name: 'fresh', mode: 'new' });
    await expectRestored(document.backup, truth);
    const next = await night({ name: 'fresh', mode: 'reuse' });
    await expectRestored(next.document.backup, next.truth);
  });

  it('what was read is discarded where that is asked for, and what is given is the same', async () => {
    const random = seededRandom(3);
    await guest.write(0, random.bytes(LENGTH));
    const uri = await guest.evening({ bitmap: NEW, writable: true });
    const truth = await guest.content();
    await guest.write(0, random.bytes(50 * CLUSTER));
    expect(guest.fleeceBytes).toBeGreaterThanOrEqual(50 * CLUSTER);
    const { backup } = await bench.json(words(uri, NEW, ['--discard-source']));
    expect(guest.fleeceBytes).toBeLessThan(4 * CLUSTER);
    await guest.morning(true);
    await expectRestored(backup, truth);
    const second = await night(REUSE, ['--discard-source'], { writable: true });
    await expectRestored(second.document.backup, second.truth);
    const third = await night(REUSE, ['--discard-source']);
    await expectRestored(third.document.backup, third.truth);
  });

  it('a bitmap that does not fit is refused with what to do, and a new one always works', async () => {
    const refused = { exit: 1, code: 'no-usable-parent', object: 'drive-scsi0' };
    const advice = expect.stringContaining('--bitmap drive-scsi0=bk:new');
    await guest.write(0, Buffer.alloc(CLUSTER, 5));
    await night(NEW);
    // Forgotten: no parent at all.
    await bench.json(['forget', '100']);
    expect(await failedNight(REUSE)).toMatchObject({ ...refused, advice });
    // A parent that recorded no bitmap, and one with another name.
    await bench.json(['backup', '100', '--disk', `drive-scsi0=${bench.path('guest', 'disk.raw')}`, '--force-share']);
    expect(await failedNight(REUSE)).toMatchObject({ ...refused, message: expect.stringContaining('no dirty bitmap') });
    await night({ name: 'other', mode: 'new' });
    expect(await failedNight(REUSE)).toMatchObject({ ...refused, message: expect.stringContaining('other') });
    // The server does not have it.
    const uri = await guest.evening({});
    expect(await bench.error(words(uri, REUSE))).toMatchObject({ exit: 1, code: 'no-bitmap' });
    await guest.morning(true);
    // Another disk name.
    const again = await guest.evening({ bitmap: REUSE });
    const other = ['backup', '100', '--disk', `scsi1=${again}`, '--bitmap', 'scsi1=bk:reuse'];
    expect(await bench.error(other)).toMatchObject({ exit: 1, code: 'no-usable-parent', object: 'scsi1' });
    await guest.morning(false);
    const { document, truth } = await night({ name: 'fresh', mode: 'new' });
    await expectRestored(document.backup, truth);
    expect((await bench.json(['list'])).backups).toHaveLength(3);
  });

  it('a disk that was resized is refused', async () => {
    const { uri } = await nbdkit(bench.path('n.sock'), 'memory', String(LENGTH + 512));
    await bench.json(words(uri, NEW));
    expect(await bench.error(words(uri, REUSE))).toMatchObject({ exit: 1, code: 'no-bitmap' });
    await guest.write(0, Buffer.alloc(512, 1));
    const first = await guest.evening({ bitmap: NEW });
    await guest.morning(true);
    expect(first).toContain('drive-scsi0');
    expect(await failedNight(REUSE)).toMatchObject({
      ...{ exit: 1, code: 'no-usable-parent', message: expect.stringContaining(`${LENGTH + 512}`) },
    });
  });
});

it.each([
  [{ bitmap: ['x=b:new'] }, 'no-such-disk'],
  [{ bitmap: ['a=b'] }, 'bad-bitmap'],
  [{ bitmap: ['a=:new'] }, 'bad-bitmap'],
  [{ bitmap: ['a=b:old'] }, 'bad-bitmap'],
  [{ bitmap: [`a=${'b'.repeat(1024)}:new`] }, 'bad-bitmap'],
  [{ bitmap: ['a=b:new', 'a=c:new'] }, 'duplicate'],
  [{ bitmap: ['f=b:new'] }, 'bitmap-of-image'],
  [{ bitmap: ['a=b:new'], parent: 'vm/100/2020-01-01T00:00:00Z' }, 'needs-bitmap'],
  [{ bitmap: ['a=b:reuse'], parent: '100' }, 'bad-parent'],
  [{ bitmap: ['a=b:new'], output: 'x.vmar' }, 'no-bitmaps-here'],
  [{ disk: ['f=image'], discardSource: true }, 'nothing-to-discard'],
])('%j is wrong usage', (flags, code) => {
  const disk = ['a=nbd+unix:///a?socket=/nowhere', 'f=image'];
  expect(() => parseBackup('1', { disk, ...flags })).toThrow(expect.objectContaining({ exitStatus: 2, code }));
});

it('a bitmap’s name may hold what it likes, and the disk’s may be short', () => {
  const disk = ['drive-a=nbd+unix:///a?socket=/nowhere'];
  const { exports } = parseBackup('1', { disk, bitmap: ['a=vmar:x=y:reuse'], parent: 'n/vm/1/2020-01-01T00:00:00Z' });
  expect([...exports.bitmaps]).toEqual([['drive-a', { name: 'vmar:x=y', mode: 'reuse' }]]);
  expect(exports.parent).toBe('n/vm/1/2020-01-01T00:00:00Z');
});
