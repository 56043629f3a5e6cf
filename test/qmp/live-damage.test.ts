// SPDX-License-Identifier: MIT
// Proves: an incremental backup of a running guest takes nothing over from a backup that is known to be damaged there: it
// reads the place again, or the disk goes full and says why; and the damaged backup is whole again after it.

import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { seededRandom } from '../base/random.js';
import { Bench, type Json } from '../cli/bench.js';
import { haveStorageDaemon, type StorageDaemon, startStorageDaemon } from './storage-daemon.js';

const CLUSTER = 65536;
const SIZE = 200 * CLUSTER;

describe.skipIf(!haveStorageDaemon('incremental backups over damaged ones'))('over a damaged backup', () => {
  const bench = new Bench();
  let daemon: StorageDaemon;
  let content: Buffer;
  let seed = 1;

  beforeAll(async () => {
    mkdirSync(bench.path('fleece'));
    content = Buffer.from(seededRandom(11).bytes(SIZE));
    writeFileSync(bench.path('d.raw'), content);
    daemon = await startStorageDaemon(bench.directory, [{ name: 'd', image: bench.path('d.raw'), format: 'raw' }]);
    await bench.json(['init', 'store']);
  });
  afterAll(async () => await daemon?.stop());

  const backUp = (): Promise<Json> =>
    bench.json(['backup', '100', '--qmp', daemon.qmp, '--fleece', bench.path('fleece')]);

  function packs(): string[] {
    const directory = join(bench.store, 'packs');
    const names = readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter((name) =>
      name.endsWith('.vmar'),
    );
    return names.map((name) => join(directory, name));
  }

  /** The packs that a backup made. */
  async function made(): Promise<{ backup: string; data: string; maps: string }> {
    const before = new Set(packs());
    const { backup } = await backUp();
    const [data, maps] = packs()
      .filter((path) => !before.has(path))
      .sort((a, b) => readFileSync(b).length - readFileSync(a).length);
    return { backup, data: data!, maps: maps! };
  }

  function flip(path: string, offset: number): void {
    const bytes = readFileSync(path);
    bytes[offset]! ^= 4;
    writeFileSync(path, bytes);
  }

  async function damages(): Promise<Json> {
    const finished = await bench.run(['--json', 'verify']);
    expect(finished.status).toBe(3);
    return finished.json().damage;
  }

  async function expectWhole(...backups: string[]): Promise<void> {
    for (const backup of backups) {
      const to = bench.path('out');
      rmSync(to, { recursive: true, force: true });
      await bench.json(['restore', backup, '--to', to]);
      expect(readFileSync(join(to, 'd.raw')).equals(content), backup).toBe(true);
    }
    expect((await bench.run(['gc'])).status).toBe(0);
    expect((await bench.run(['verify'])).status).toBe(0);
  }

  /** All of the disk anew, so that it is all in packs of its own; the bitmap says so. */
  function rewrite(): void {
    content = Buffer.from(seededRandom(100 + seed++).bytes(SIZE));
    for (const mount of daemon.mounts.values()) writeFileSync(mount, content, { flag: 'r+' });
  }

  it.each([
    ['a chunk', 'data', (bytes: number) => Math.floor(bytes / 2), { full: false }],
    // All of a small map is in one frame, its root too.
    ['a map page', 'maps', () => 1000, { full: true }],
    ['the header of a pack', 'data', () => 20, { full: true }],
  ] as const)('%s is stored again', async (_, which, where, { full }) => {
    if (which !== 'data' || full) rewrite();
    const first = await made();
    flip(first[which], where(readFileSync(first[which]).length));
    expect((await damages()).flatMap(({ backups }: Json) => backups)).toContain(first.backup);
    const { backup, disks } = await backUp();
    const { fullReason } = (await bench.json(['show', backup])).disks[0];
    if (full) {
      expect(fullReason).toMatch(/damaged/);
      expect(disks[0].read).toBe(SIZE);
    } else {
      expect(fullReason ?? '').toBe('');
      expect(disks[0].read).toBeGreaterThan(0);
      expect(disks[0].unchanged).toBeGreaterThan(0);
    }
    expect((await damages()).flatMap(({ disks }: Json) => disks)).toEqual([]);
    await expectWhole(first.backup, backup);
  });
});
