// SPDX-License-Identifier: MIT
// Proves: each disk of a running guest decides by itself whether its dirty bitmap can be rested on. Where it cannot, that
// disk is read in full, the reason stands in the output and in the manifest, the backup is right, and the next one is
// incremental again. Where it can, no more is read than changed.

import { spawnSync } from 'node:child_process';
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { QmpClient } from '#vmar/src/qmp/qmp-client.js';
import { seededRandom } from '../base/random.js';
import { Bench, type Json } from '../cli/bench.js';
import { dissectContainer } from '../damage/anatomy.js';
import { type DaemonDisk, haveStorageDaemon, type StorageDaemon, startStorageDaemon } from './storage-daemon.js';

const MIB = 1 << 20;
const CLUSTER = 65536;
const SIZE = 12 * MIB;
const SEED = Number(process.env.VMAR_LIVE_SEED ?? Math.floor(Math.random() * 1e6));

describe.skipIf(!haveStorageDaemon('dirty bitmaps of running guests'))(`dirty bitmaps, seed ${SEED}`, () => {
  const bench = new Bench();
  const random = seededRandom(SEED);
  let daemon: StorageDaemon;
  let disks: DaemonDisk[];

  const image = (name: string, sizeBytes = SIZE, ...options: string[]): DaemonDisk => {
    const path = bench.path(`${name}.qcow2`);
    spawnSync('qemu-img', ['create', '-q', '-f', 'qcow2', ...options, path, String(sizeBytes)]);
    return { name, image: path, format: 'qcow2' };
  };
  const start = async () => {
    daemon = await startStorageDaemon(bench.directory, disks);
  };

  beforeEach(async () => {
    for (const name of ['fleece', 'store', 'cache']) rmSync(bench.path(name), { recursive: true, force: true });
    mkdirSync(bench.path('fleece'));
    await bench.json(['init', 'store']);
    disks = [image('a'), image('b')];
    await start();
    for (const name of ['a', 'b']) for (let at = 0; at < 4; at++) write(name, at * 2 * MIB + 100, 3 * CLUSTER);
  });

  afterEach(async () => {
    await daemon.stop();
  });

  function write(name: string, at: number, length: number): void {
    const fd = openSync(daemon.mounts.get(name)!, 'r+');
    writeSync(fd, Buffer.alloc(length, random.integer(1, 255)), 0, length, at);
    closeSync(fd);
  }

  const words = ['--fleece', bench.path('fleece')];
  const backUp = (...more: string[]): Promise<Json> =>
    bench.json(['backup', '100', '--qmp', daemon.qmp, ...words, ...more]);

  /** Backs up, expects the disks as they are, and why each was read in full ("" where it was not). */
  async function expectBackup(...reasons: (string | RegExp)[]): Promise<Json> {
    const result = await backUp();
    const isAnyFull = reasons.some((reason) => reason !== '');
    const shown: Json = isAnyFull ? (await bench.json(['show', result.backup])).disks : result.disks;
    for (const [at, reason] of reasons.entries()) {
      const told = { report: result.disks[at].fullReason ?? '', manifest: shown[at].fullReason ?? '' };
      if (reason instanceof RegExp) expect(told.report).toMatch(reason);
      else expect(told.report).toBe(reason);
      expect(told.manifest).toBe(told.report);
      if (reason !== '')
        expect(result.disks[at].read + result.disks[at].zero).toBeGreaterThanOrEqual(result.disks[at].size);
      else expect(result.disks[at].read).toBeLessThan(result.disks[at].size / 2);
    }
    await expectContents(result.backup);
    return result;
  }

  async function expectContents(backup: string): Promise<void> {
    rmSync(bench.path('out'), { recursive: true, force: true });
    await bench.json(['restore', backup, '--to', 'out']);
    for (const { name } of disks) {
      const now = readFileSync(daemon.mounts.get(name)!);
      expect(readFileSync(bench.path('out', `${name}.raw`)).equals(now), `${name} of ${backup}`).toBe(true);
    }
  }

  it('say to the cluster what is to be read', async () => {
    await backUp();
    for (let round = 0; round < 2; round++) {
      const dirty = new Set<number>();
      for (let n = random.integer(1, 40); n > 0; n--) {
        const length = random.integer(1, 3 * CLUSTER);
        const at = random.integer(0, SIZE - length);
        write('a', at, length);
        for (let cluster = Math.floor(at / CLUSTER); cluster * CLUSTER < at + length; cluster++) dirty.add(cluster);
      }
      const { disks: told } = await expectBackup('', '');
      expect(told[0].read + told[0].zero).toBe(dirty.size * CLUSTER);
      expect(told[0].unchanged).toBeGreaterThanOrEqual(SIZE - dirty.size * CLUSTER);
      expect(told[1]).toMatchObject({ read: 0, zero: 0, unchanged: SIZE });
    }
  });

  it('outlive a QEMU that ends in good order, and not one that is killed', async () => {
    await expectBackup('', '');
    await daemon.stop();
    await start();
    write('a', 5 * MIB, 100);
    await expectBackup('', '');
    // Stored in the image once, it is in use now, and then QEMU is no more.
    await daemon.stop();
    await start();
    write('a', 7 * MIB, 100);
    await daemon.kill();
    await start();
    await expectBackup(/inconsistent: QEMU did not end in good order/, /inconsistent/);
    write('b', 7 * MIB, 100);
    await expectBackup('', '');
    const client = await QmpClient.open(daemon.qmp);
    const nodes = await client.execute('query-named-block-nodes', { flat: true });
    expect(nodes.flatMap(({ bitmaps }) => bitmaps).map(({ recording }) => recording)).toEqual([true, true]);
    await client.close();
    // Never stored, it is gone with QEMU.
    await daemon.kill();
    await start();
    await expectBackup(/gone \(QEMU was killed before it stored it/, /gone/);
  });

  it('are not rested on by a disk that was resized, replaced or added since', async () => {
    await expectBackup('', '');
    await daemon.stop();
    const larger = spawnSync('qemu-img', ['resize', '-q', disks[0]!.image, String(SIZE + MIB)], { encoding: 'utf8' });
    expect(larger.stderr).toBe('');
    disks = [disks[0]!, disks[1]!, image('c', 4 * MIB)];
    await start();
    write('c', 0, 100);
    await expectBackup('the disk was resized since the last backup', '', 'the disk is not in the last backup');
    await daemon.stop();
    disks = [disks[0]!, image('b'), disks[2]!];
    await start();
    write('b', MIB, 100);
    await expectBackup(
      '',
      /gone \(QEMU was killed before it stored it, someone removed it, or the image is another one\)/,
      '',
    );
    await expectBackup('', '', '');
  });

  it('of someone else are neither taken for ours nor touched', async () => {
    await expectBackup('', '');
    const client = await QmpClient.open(daemon.qmp);
    const nodes = await client.execute('query-named-block-nodes', { flat: true });
    const { name } = nodes.find(({ nodeName }) => nodeName === 'a-image')!.bitmaps[0]!;
    const theirs = { node: 'a-image', granularity: 4096, persistent: true } as const;
    await client.execute('block-dirty-bitmap-remove', { node: 'a-image', name });
    await client.execute('block-dirty-bitmap-add', { ...theirs, name });
    await client.execute('block-dirty-bitmap-add', { ...theirs, node: 'b-image', name: 'bk0' });
    await client.execute('block-dirty-bitmap-add', { ...theirs, node: 'b-image', name: `${name.slice(0, -20)}x` });
    await client.close();
    await expectBackup('the dirty bitmap of this name was made by someone else', '');
    await expectBackup('', '');
    const again = await QmpClient.open(daemon.qmp);
    const left = (await again.execute('query-named-block-nodes', { flat: true })).find(
      (one) => one.nodeName === 'b-image',
    );
    expect(left!.bitmaps.map((bitmap) => bitmap.name)).toContain('bk0');
    await again.close();
  });

  it('last as long as QEMU where the image has no room for them', async () => {
    await daemon.stop();
    disks = [image('a', SIZE, '-o', 'compat=0.10'), disks[1]!];
    await start();
    write('a', 0, 100);
    await expectBackup('', '');
    await expectBackup('', '');
    await daemon.stop();
    await start();
    await expectBackup(/gone/, '');
  });

  it('are not rested on after a backup by other means', async () => {
    await expectBackup('', '');
    writeFileSync(bench.path('x.raw'), Buffer.alloc(CLUSTER));
    await bench.json(['backup', '100', '--disk', 'a=x.raw', '--disk', 'b=x.raw']);
    await expectBackup(/resized/, /resized/);
    await expectBackup('', '');
  });

  describe('where the last backup is damaged', () => {
    const packs = () =>
      readdirSync(bench.path('store', 'packs')).flatMap((sub) =>
        readdirSync(bench.path('store', 'packs', sub)).map((name) => join(bench.path('store', 'packs', sub), name)),
      );
    const flip = (path: string, at: number) => {
      const bytes = readFileSync(path);
      bytes[at]! ^= 0xff;
      writeFileSync(path, bytes);
    };

    async function expectFullThenIncremental(reason: RegExp): Promise<void> {
      write('a', 3 * MIB, 100);
      await expectBackup(reason, reason);
      write('a', 3 * MIB, 200);
      const { backup } = await expectBackup('', '');
      const { damage } = (await bench.run(['--json', 'verify', backup])).json();
      expect(damage.filter(({ backups }: Json) => backups.includes(backup))).toEqual([]);
    }

    it('in its manifest', async () => {
      const { backup } = await expectBackup('', '');
      flip(bench.path('store', 'manifests', `${backup}.manifest`), 100);
      await expectFullThenIncremental(/the last backup, vm\/100\/.*, cannot be read/);
    });

    it('as a pack of it is gone', async () => {
      await expectBackup('', '');
      for (const pack of packs()) unlinkSync(pack);
      await expectFullThenIncremental(/the last backup cannot be used/);
    });

    /** Leaves nothing of a map page's frame to be read. */
    const damageMaps = (file: string) => {
      const parts = dissectContainer(file, readFileSync(file));
      for (const { name, isData, from, to } of parts) if (name === 'frame' && !isData) flip(file, (from + to) >> 1);
    };

    it('at the root of its maps', async () => {
      await expectBackup('', '');
      for (const pack of packs()) damageMaps(pack);
      await expectFullThenIncremental(/the last backup cannot be used/);
    });

    it('deep in its maps, as comes out only while they are read', async () => {
      for (const name of ['a', 'b']) write(name, SIZE - 2 * MIB, 100);
      await expectBackup('', '');
      const old = packs();
      // The second half of the disk stays on the pages of the first backup.
      write('a', 100, 100);
      write('b', 100, 100);
      await expectBackup('', '');
      for (const pack of old) damageMaps(pack);
      write('a', SIZE - MIB, 100);
      write('b', SIZE - MIB, 100);
      await expectFullThenIncremental(/the last backup, vm\/100\/.*, is damaged: /);
    });

    it('or a later one was forgotten', async () => {
      await expectBackup('', '');
      const { backup } = await expectBackup('', '');
      await bench.json(['forget', backup]);
      await expectFullThenIncremental(/gone \(the one on the disk follows a backup that is not the last one\)/);
    });
  });
});
