// SPDX-License-Identifier: MIT
// A byte of a pack changes; verify tells and remembers it; backups of the same contents store anew what is damaged, and so
// make the old backups whole again; gc replaces the damaged pack. That holds wherever the byte is.

import { cpSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { collectGarbage } from '#vmar/src/archive/gc/collect.js';
import type { VerifyReport } from '#vmar/src/archive/verify/damage.js';
import { verifyDatastore } from '#vmar/src/archive/verify/verify-datastore.js';
import { SILENT } from '#vmar/src/base/log.js';
import { readDamage } from '#vmar/src/store/damage-list.js';
import { World } from '../archive/world.js';
import { seededRandom } from '../base/random.js';
import { memoryDirectory } from '../crash/memory-directory.js';
import { backUp, FANOUT, makeTinyStore, TINY_BACKUPS, type TinyBackup } from './tiny-store.js';

const scratch = memoryDirectory();
const SEED = Number(process.env.VMAR_TEST_SEED ?? 20261121);
const ROUNDS = Number(process.env.VMAR_HEAL_ROUNDS ?? 8);
/** Whole again, and some days later. */
const AGAIN: readonly TinyBackup[] = TINY_BACKUPS.map(({ name, disks }, at) => ({
  name: name.replace('2026-01-', `2026-0${2 + at}-`),
  disks,
}));

async function verify(world: World): Promise<VerifyReport> {
  const store = await world.open();
  try {
    return await verifyDatastore(store, { mode: 'full', portable: false, workers: 0 });
  } finally {
    await store.close();
  }
}

async function gc(world: World) {
  const store = await world.open();
  try {
    return await collectGarbage(store, { mostUnused: 0.1, isDryRun: false, workers: 0 });
  } finally {
    await store.close();
  }
}

function packsOf(world: World): string[] {
  const packs = join(world.root, 'packs');
  const files = readdirSync(packs, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.vmar'));
  return files.sort().map((name) => join(packs, name));
}

/** A place in all packs as one of them: its file and offset. */
function placeAt(files: readonly string[], at: number): { file: string; offset: number } {
  let left = at;
  for (const file of files) {
    const { size } = statSync(file);
    if (left < size) return { file, offset: left };
    left -= size;
  }
  throw new Error('past all packs');
}

async function expectWhole(world: World, backups: readonly TinyBackup[]): Promise<void> {
  for (const { name, disks } of backups) {
    for (const disk of disks) {
      const { content } = await world.restore(name, disk.name);
      expect(content.equals(disk.content), `${name}:${disk.name}`).toBe(true);
    }
  }
}

describe('damage', () => {
  it(`heals, wherever it is (seed ${SEED})`, { timeout: 600_000 }, async () => {
    const template = await makeTinyStore(join(scratch, 'template'));
    const random = seededRandom(SEED);
    const bytes = packsOf(template).reduce((sum, file) => sum + statSync(file).size, 0);
    for (let round = 0; round < ROUNDS; round++) {
      const base = join(scratch, `round-${round}`);
      cpSync(join(scratch, 'template'), base, { recursive: true });
      const world = World.at(base, { mapFanout: FANOUT });
      const { file, offset } = placeAt(packsOf(world), random.integer(0, bytes - 1));
      const content = readFileSync(file);
      content[offset]! ^= 1 << random.integer(0, 7);
      writeFileSync(file, content);
      const where = `${file.slice(base.length)} at ${offset}`;

      const found = await verify(world);
      expect(found.damage.length, `found: ${where}`).toBeGreaterThan(0);
      const touched = new Set(found.damage.flatMap(({ backups }) => [...backups]));
      const known = await readDamage(world.root, SILENT);
      expect([...known.backups].sort(), `remembered: ${where}`).toEqual([...touched].sort());

      for (const backup of AGAIN) await backUp(world, backup);
      const healed = await verify(world);
      expect(
        healed.damage.flatMap(({ disks }) => [...disks]),
        `healed: ${where}`,
      ).toEqual([]);
      await expectWhole(world, [...TINY_BACKUPS, ...AGAIN]);

      const report = await gc(world);
      expect(report.damaged, `collected: ${where}`).toEqual([]);
      expect((await verify(world)).damage, `replaced: ${where}`).toEqual([]);
      expect((await readDamage(world.root, SILENT)).isEmpty, where).toBe(true);
      await expectWhole(world, [...TINY_BACKUPS, ...AGAIN]);
      rmSync(base, { recursive: true });
    }
  });
});
