// SPDX-License-Identifier: MIT
// More packs than are kept open at a time: closing one to make room for another is no damage.

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { ChunkReader } from '#vmar/src/archive/chunk-reader.js';
import { DatastoreChunks } from '#vmar/src/archive/datastore-chunks.js';
import { CLUSTER, World } from '../archive/world.js';
import { scratchDirectory } from '../base/scratch.js';
import { idOf, pageOf, plantManifest, plantPack } from './forge.js';
import { whileFlipped } from './lanes.js';
import { restoreTo } from './restoring.js';
import { FANOUT, filled } from './tiny-store.js';

const base = scratchDirectory();
const PROGRAM = fileURLToPath(new URL('../../dist/bundle/cli/vmar.js', import.meta.url));
const PACKS = 560;
const BACKUP = 'vm/1/2026-01-01T00:00:00Z';

describe('a datastore of more packs than may be open', () => {
  it('has every chunk, also those that are looked for everywhere, and those whose pack was closed meanwhile', async () => {
    const world = await World.create(join(base, 'world'), { mapFanout: FANOUT, workers: 2 });
    let store = await world.open();
    const { storeUuid } = store.superblock;
    const clusters = Array.from({ length: PACKS }, (_, n) => filled(`cluster ${n} `));
    const ids = clusters.map((bytes) => idOf(0, bytes));
    const paths = clusters.map((bytes) => {
      return plantPack(world.root, storeUuid, {
        extents: [{ content: 1, frames: [{ chunks: [{ bytes, kind: 0 }] }] }],
      });
    });
    const level1 = Array.from({ length: PACKS / FANOUT }, (_, n) =>
      pageOf(FANOUT, ids.slice(n * FANOUT, (n + 1) * FANOUT)),
    );
    const level2 = Array.from({ length: Math.ceil(level1.length / FANOUT) }, (_, n) => {
      const below = level1.slice(n * FANOUT, (n + 1) * FANOUT);
      return pageOf(
        below.length,
        below.map((page) => idOf(1, page)),
      );
    });
    const root = pageOf(
      level2.length,
      level2.map((page) => idOf(2, page)),
    );
    const pages = [
      ...level1.map((bytes) => ({ bytes, kind: 1 })),
      ...level2.map((bytes) => ({ bytes, kind: 2 })),
      { bytes: root, kind: 3 },
    ];
    plantPack(world.root, storeUuid, { extents: [{ content: 2, frames: [{ chunks: pages }] }] });
    plantManifest(world.root, storeUuid, { name: BACKUP, sizeBytes: PACKS * CLUSTER, mapRoot: idOf(3, root) });
    await store.close();
    // A second copy, damaged, of the chunks in the packs that are looked through first; the index knows it last.
    await world.verify('quick');
    const early = [...paths.keys()].sort((a, b) => (paths[a]! < paths[b]! ? -1 : 1)).slice(0, 8);
    const doubles = early.map((n) => ({ bytes: clusters[n]!, kind: 0 }));
    const bad = plantPack(world.root, storeUuid, { extents: [{ content: 1, frames: [{ chunks: doubles }] }] });
    const content = Buffer.concat(clusters);
    await whileFlipped(bad, 256 + 96 + 48 * 8 + 32 + 5, 0xff, async () => {
      store = await world.open();
      const chunks = await DatastoreChunks.open(store);
      const reader = new ChunkReader(chunks);
      for (const n of early) {
        expect(chunks.locate(ids[n]!)?.container.path).toBe(bad);
        expect(Buffer.from(await reader.read(ids[n]!, 0)).equals(clusters[n]!)).toBe(true);
      }
      // Held while all others were opened, and read from now.
      const [known] = ids.filter((_, n) => !early.includes(n));
      const held = chunks.locate(known!)!.container;
      for (const id of ids) if (id !== known) chunks.locate(id);
      expect(held.find(known!)?.lengthBytes).toBe(CLUSTER);
      expect(held.frame(0).chunkCount).toBe(1);
      expect(paths).toContain(held.path);
      await chunks.close();
      await store.close();
      const target = join(base, 'target');
      await restoreTo(world, { backup: BACKUP, targets: { d: target } });
      expect(readFileSync(target).equals(content)).toBe(true);
      const { damage } = await world.verify();
      expect(damage.map(({ file, backups }) => [file, backups.size])).toEqual([[bad, 0]]);
    });
  });

  it.each([['verify', '--quick'], ['stats'], ['restore', BACKUP, '--to', join(base, 'limited')]])(
    'takes no more of them than a low limit allows: %s',
    (...words) => {
      const vmar = [process.execPath, PROGRAM, '--datastore', join(base, 'world', 'store'), ...words];
      const env = { ...process.env, VMAR_CACHE_DIR: join(base, 'world', 'cache') };
      const ran = spawnSync('sh', ['-c', 'ulimit -n 64 && exec "$@"', 'sh', ...vmar], { env, encoding: 'utf8' });
      expect(ran).toMatchObject({ status: 0, stderr: expect.not.stringContaining('EMFILE') });
    },
  );
});
