// SPDX-License-Identifier: MIT
// Proves: whatever happens between and during backups of a running guest (kills, interrupts, failures, a QEMU that ends in
// good order or not, forgotten backups), each backup that comes off is to the byte what all disks held at one moment
// during it. VMAR_LIVE_RUNS says how many (100 in the long run), VMAR_LIVE_SEED which.

import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { seededRandom } from '../base/random.js';
import { Bench } from '../cli/bench.js';
import { guestState } from './guest-state.js';
import { LiveWriter } from './live-writer.js';
import { haveStorageDaemon, type StorageDaemon, startStorageDaemon } from './storage-daemon.js';

const MIB = 1 << 20;
const SIZES = [12 * MIB, 5 * MIB + 4096];
const RUNS = Number(process.env.VMAR_LIVE_RUNS ?? 4);
const SEED = Number(process.env.VMAR_LIVE_SEED ?? Math.floor(Math.random() * 1e6));

type Trouble = 'none' | 'kill' | 'interrupt' | 'failure' | 'restart' | 'forget' | 'many writes';
const TROUBLES: readonly Trouble[] = ['none', 'kill', 'interrupt', 'failure', 'restart', 'forget', 'many writes'];

describe.skipIf(!haveStorageDaemon('the campaign of live backups'))(`${RUNS} backups, seed ${SEED}`, () => {
  const bench = new Bench();
  const random = seededRandom(SEED);
  const writer = new LiveWriter(SEED, SIZES);
  const counts = new Map<string, number>();
  const disks = SIZES.map((_, at) => {
    const format = at === 0 ? ('qcow2' as const) : ('raw' as const);
    return { name: `d${at}`, image: bench.path(`${at}.${format}`), format };
  });
  let daemon: StorageDaemon;

  const start = async () => {
    daemon = await startStorageDaemon(bench.directory, disks);
    await writer.start(daemon.mounts.values());
  };

  beforeAll(async () => {
    mkdirSync(bench.path('fleece'));
    for (const [at, { image, format }] of disks.entries()) {
      spawnSync('qemu-img', ['create', '-q', '-f', format, image, String(SIZES[at])]);
    }
    await bench.json(['init', 'store']);
    await start();
    await bench.json(words());
    await writer.stop();
  });

  afterAll(async () => {
    await writer.stop().catch(() => {});
    await daemon?.stop();
    console.log(`seed ${SEED}: ${[...counts].map(([what, count]) => `${what} ${count}`).join(', ')}`);
  });

  const words = (...more: string[]) => [
    ...['backup', '100', '--qmp', daemon.qmp, '--fleece', bench.path('fleece'), ...more],
  ];
  const count = (what: string) => counts.set(what, (counts.get(what) ?? 0) + 1);

  async function cutOff(signal: 'SIGKILL' | 'SIGINT'): Promise<void> {
    const { child, finished } = bench.start(words('--speed', '3MiB'));
    await delay(random.integer(100, 1500));
    child.kill(signal);
    await finished;
  }

  async function trouble(what: Trouble): Promise<void> {
    count(what);
    if (what === 'kill') {
      for (let kill = random.integer(1, 2); kill > 0; kill--) await cutOff('SIGKILL');
    } else if (what === 'interrupt') await cutOff('SIGINT');
    else if (what === 'failure') {
      // It fails when it commits: nobody may write there.
      const bad = await bench.error(words('--output', bench.path('nowhere', 'a.vmar')));
      expect(bad.exit).toBe(1);
    } else if (what === 'restart') {
      await writer.stop();
      await daemon.stop();
      await start();
    } else if (what === 'forget') {
      const { backups } = await bench.json(['list', '100']);
      if (backups.length > 1) await bench.json(['forget', backups.at(-1).backup]);
    } else if (what === 'many writes') {
      writer.hasty = true;
      await delay(300);
      writer.hasty = false;
    }
  }

  it.each(Array.from({ length: RUNS }, (_, run) => run))(
    'shows one moment of all disks, run %i',
    async () => {
      await writer.start(daemon.mounts.values());
      await trouble(TROUBLES[random.integer(0, TROUBLES.length - 1)]!);
      const least = writer.writes;
      const result = await bench.json(words(...(random.oneIn(3) ? ['--speed', '12MiB'] : [])));
      const most = writer.writes + 1;
      // Else all would be dirty by the time that this one is compared.
      await writer.stop();
      for (const { fullReason, unchanged } of result.disks) {
        count(fullReason !== undefined ? 'full for a reason' : unchanged > 0 ? 'incremental' : 'full');
      }
      rmSync(bench.path('out'), { recursive: true, force: true });
      await bench.json(['restore', result.backup, '--to', 'out']);
      const found = SIZES.map((_, at) => readFileSync(bench.path('out', `d${at}.raw`)));
      const moment = writer.momentOf(found);
      expect(moment).toBeGreaterThanOrEqual(least);
      expect(moment).toBeLessThanOrEqual(most);
      const { nodes, bitmaps } = await guestState(daemon.qmp);
      expect(nodes.filter((name) => name.startsWith('vmar-'))).toEqual([]);
      expect(bitmaps).toEqual(['d0-image true', 'd1-image true']);
      expect(readdirSync(bench.path('fleece'))).toEqual([]);
    },
    400_000,
  );
});
