// SPDX-License-Identifier: MIT
// gc by the real command line, killed at random moments, while backups of two guests run beside it and old ones are
// forgotten. VMAR_GC_ROUNDS=200 makes a long campaign of it, and VMAR_KILL_SEED repeats one.

import { readdirSync, rmSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../base/random.js';
import { Bench, type Json } from '../cli/bench.js';
import { ChangingImage, fileHolds } from './changing-image.js';

const ROUNDS = Number(process.env.VMAR_GC_ROUNDS ?? 8);
const SEED = Number(process.env.VMAR_KILL_SEED ?? Math.floor(Math.random() * 2 ** 31));
const random = seededRandom(SEED);
console.info(`VMAR_KILL_SEED=${SEED} VMAR_GC_ROUNDS=${ROUNDS}`);

/** What is known of the backups that were made and not forgotten. */
type Known = Map<string, Buffer>;

async function expectAllRestore(bench: Bench, known: Known, ids: readonly string[]): Promise<void> {
  for (const id of ids) {
    await bench.json(['restore', id, '--disk', 'd=restored.raw']);
    expect(fileHolds(bench.path('restored.raw'), known.get(id)!), `${id} restores as it was`).toBe(true);
    rmSync(bench.path('restored.raw'));
  }
}

async function backUp(bench: Bench, known: Known, image: ChangingImage, guest: string): Promise<void> {
  image.change();
  const content = Buffer.from(image.content);
  const { backup }: Json = await bench.json(['backup', guest, '--disk', `d=${image.path}`]);
  known.set(backup, content);
}

/** Forgets about half of the backups, and never a guest's last. */
async function forgetSome(bench: Bench, known: Known): Promise<void> {
  const ids = [...known.keys()].sort();
  const last = new Set(ids.filter((id, at) => ids[at + 1]?.split('/')[1] !== id.split('/')[1]));
  const gone = ids.filter((id) => !last.has(id) && random.oneIn(2));
  if (gone.length > 0) await bench.json(['forget', ...gone]);
  for (const id of gone) known.delete(id);
}

async function gcAndKill(bench: Bench, millis: number): Promise<'killed' | 'done'> {
  const { child, finished } = bench.start(['gc', '--max-unused', '0%']);
  const ended = await Promise.race([finished.then(() => true), delay(millis, false)]);
  if (!ended) child.kill('SIGKILL');
  const { status, stderr } = await finished;
  if (child.signalCode === 'SIGKILL') return 'killed';
  expect(status, stderr).toBe(0);
  return 'done';
}

function packCount(bench: Bench): number {
  return readdirSync(bench.path('store', 'packs'), { recursive: true }).filter((name) => `${name}`.endsWith('.vmar'))
    .length;
}

describe('gc', () => {
  it(
    'that is killed at any moment, beside backups, costs no backup anything',
    async () => {
      const bench = new Bench();
      await bench.json(['init', bench.store]);
      const known: Known = new Map();
      const left = new ChangingImage(bench.directory, 'left.raw', 16, random);
      const right = new ChangingImage(bench.directory, 'right.raw', 16, random);
      for (const [guest, image] of [
        ['left', left],
        ['right', right],
      ] as const) {
        for (let night = 0; night < 3; night++) {
          await backUp(bench, known, image, guest);
          await delay(1000 - (Date.now() % 1000));
        }
      }
      const tally = { killed: 0, done: 0 };
      let longest = 1500;
      for (let round = 0; round < ROUNDS; round++) {
        await forgetSome(bench, known);
        const collecting = (async () => {
          if (random.oneIn(2)) await delay(random.integer(0, 400));
          const begun = performance.now();
          const end = await gcAndKill(bench, random.integer(150, longest));
          if (end === 'done') longest = Math.max(400, performance.now() - begun);
          tally[end]++;
        })();
        await Promise.all([collecting, backUp(bench, known, left, 'left'), backUp(bench, known, right, 'right')]);
        expect(await bench.json(['verify', '--quick'])).toMatchObject({ ok: true });
        const ids = [...known.keys()];
        await expectAllRestore(bench, known, [ids[random.integer(0, ids.length - 1)]!, ids.at(-1)!]);
      }
      console.info(`${ROUNDS} rounds: gc was killed ${tally.killed} times, and ended ${tally.done} times`);
      for (let time = 0; time < 2; time++) {
        expect(await bench.json(['gc', '--max-unused', '0%'])).toMatchObject({ waiting: { packs: 0 }, damaged: [] });
      }
      expect(await bench.json(['gc', '--max-unused', '0%'])).toMatchObject({ deleted: { packs: 0 } });
      expect(await bench.json(['verify'])).toMatchObject({ ok: true });
      await expectAllRestore(bench, known, [...known.keys()]);
      await bench.json(['forget', ...known.keys()]);
      await bench.json(['gc']);
      expect(packCount(bench)).toBe(0);
      expect(tally.killed).toBeGreaterThan(0);
    },
    120_000 + ROUNDS * 30_000,
  );

  it('is told when another is at work, and a long reader holds up nobody but the deletion', async () => {
    const bench = new Bench();
    await bench.json(['init', bench.store]);
    const known: Known = new Map();
    const image = new ChangingImage(bench.directory, 'a.raw', 16, random);
    await backUp(bench, known, image, 'a');
    const [first] = [...known.keys()];
    const reader = bench.start(['serve', first!, '--socket', bench.path('socket')]);
    while (!readdirSync(bench.directory).includes('socket')) await delay(20);
    await backUp(bench, known, new ChangingImage(bench.directory, 'b.raw', 16, random), 'b');
    await bench.json(['forget', first!]);
    const during = await bench.json(['gc']);
    expect(during).toMatchObject({ deleted: { packs: 0 }, waiting: { sessions: 1 } });
    expect(during.waiting.packs).toBeGreaterThan(0);
    // What is condemned is stored anew by those who come later.
    await backUp(bench, known, image, 'c');
    reader.child.kill('SIGTERM');
    await reader.finished;
    expect((await bench.json(['gc'])).deleted.packs).toBeGreaterThan(0);
    known.delete(first!);
    expect(await bench.json(['verify'])).toMatchObject({ ok: true });
    await expectAllRestore(bench, known, [...known.keys()]);
  }, 60_000);
});
