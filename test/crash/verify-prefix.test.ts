// SPDX-License-Identifier: MIT
// A verify that is cut off while it remembers what it found, exhaustively: after every one of its file operations the
// process dies or the power goes. What is left must be readable as it is, never say of a damaged pack that it was read
// without saying what is damaged, and the next verify must know all.

import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { VerifyReport } from '#vmar/src/archive/verify/damage.js';
import { verifyDatastore } from '#vmar/src/archive/verify/verify-datastore.js';
import type { Log } from '#vmar/src/base/log.js';
import { readDamage } from '#vmar/src/store/damage-list.js';
import { packPath } from '#vmar/src/store/layout.js';
import { RealFs } from '#vmar/src/store/real-fs.js';
import { VerifyHistory } from '#vmar/src/store/verify-history.js';
import { World } from '../archive/world.js';
import { seededRandom } from '../base/random.js';
import { CrashModel } from '../store/crash-model.js';
import { RecordingFs } from '../store/recording-fs.js';
import { crashImages, ImagePlace } from './crash-images.js';
import { memoryDirectory } from './memory-directory.js';
import { backUpNight, nightOf, packFiles } from './nights.js';

const scratch = memoryDirectory();

async function verify(world: World): Promise<VerifyReport> {
  const store = await world.open();
  try {
    const schedule = { olderThanMillis: 3_600_000, budgetMillis: Number.POSITIVE_INFINITY };
    return await verifyDatastore(store, { mode: 'full', portable: false, workers: 0, schedule });
  } finally {
    await store.close();
  }
}

describe('a crash anywhere in a verify', () => {
  it('leaves memories that hold', { timeout: 300_000 }, async () => {
    const world = await World.create(join(scratch, 'world'));
    for (const night of [nightOf('100', 0), nightOf('200', 1)]) await backUpNight(world, night);
    const file = packFiles(world)
      .map((name) => packPath(world.root, name.slice(0, 32)))
      .map((path) => ({ path, bytes: readFileSync(path) }))
      .sort((a, b) => b.bytes.length - a.bytes.length)[0]!;
    // In a frame: a pack begins with its header and the head of its first extent.
    file.bytes[2000]! ^= 1;
    writeFileSync(file.path, file.bytes);
    const damagedPack = /([0-9a-f]{32})\.vmar$/.exec(file.path)![1]!;
    cpSync(world.root, join(scratch, 'before'), { recursive: true });
    const fs = new RecordingFs(new RealFs(), world.root);
    expect((await verify(World.at(world.base, { fs }))).damage).toHaveLength(1);
    const recording = { start: () => CrashModel.of(join(scratch, 'before')), operations: fs.operations };
    const place = new ImagePlace(join(scratch, 'images'), 'store', world.cacheDir);
    let images = 0;
    for (const { story, base } of crashImages(place, recording, seededRandom(5))) {
      images++;
      place.addCache(base, images);
      const left = World.at(base);
      const warnings: string[] = [];
      const log: Log = { info: () => {}, debug: () => {}, warn: (message) => warnings.push(message) };
      const history = await VerifyHistory.read(left.root, log);
      const known = await readDamage(left.root, log);
      expect(warnings, story).toEqual([]);
      if (history.packReadMillis(damagedPack) !== undefined) expect(known.packs.has(damagedPack), story).toBe(true);
      const { damage } = await verify(left);
      expect(
        damage.map(({ kind }) => kind),
        story,
      ).toEqual(['frame']);
      const after = await readDamage(left.root, log);
      expect([...after.packs.keys()], story).toEqual([damagedPack]);
      expect(after.packs.get(damagedPack)?.isMet, story).toBe(false);
    }
    expect(images).toBeGreaterThan(20);
  });
});
