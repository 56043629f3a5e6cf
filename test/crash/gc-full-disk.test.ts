// SPDX-License-Identifier: MIT
// gc on a disk without a byte to spare: the very moment at which it is needed.

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../base/random.js';
import { Bench } from '../cli/bench.js';
import { makeImage } from '../cli/images.js';
import { fileHolds } from './changing-image.js';
import { fillDisk, mountSmallDisk, type SmallDiskKind } from './small-disk.js';

const MIB = 1 << 20;

function markersIn(store: string): string[] {
  return readdirSync(join(store, 'state')).filter((name) => name.startsWith('condemned'));
}

describe.each<SmallDiskKind>(['tmpfs', 'ext4'])('gc on a full %s', (kind) => {
  const bench = new Bench();
  const disk = bench.path('disk');
  const isThere = mountSmallDisk(kind, disk, 24);
  const store = join(disk, 'store');
  const env = { env: { VMAR_DATASTORE: store } };

  it.runIf(isThere)('frees the room of what was forgotten, and waits for who is at work', async () => {
    const contents = [1, 2].map((seed) => {
      const content = Buffer.from(seededRandom(seed).bytes(6 * MIB + 77));
      makeImage(bench.path(`${seed}.raw`), content.length, [{ at: 0, bytes: content }]);
      return content;
    });
    await bench.json(['init', store]);
    const made: string[] = [];
    for (const seed of [1, 2]) {
      made.push((await bench.json(['backup', `${seed}`, '--disk', `d=${seed}.raw`], env)).backup);
    }
    const reader = bench.start(['serve', made[1]!, '--socket', bench.path('socket')], env);
    while (!readdirSync(bench.directory).includes('socket')) await new Promise((resolve) => setTimeout(resolve, 20));
    await bench.json(['forget', made[0]!], env);
    fillDisk(disk);
    const during = await bench.json(['gc'], env);
    expect(during).toMatchObject({ deleted: { packs: 0 }, waiting: { packs: 2, sessions: 1 } });
    // No record fits: empty files say it.
    expect(markersIn(store)).toHaveLength(2);
    reader.child.kill('SIGTERM');
    await reader.finished;
    const report = await bench.json(['gc'], env);
    expect(report.deleted.bytes).toBeGreaterThan(6 * MIB);
    expect(markersIn(store)).toEqual([]);
    expect(await bench.json(['verify'], env)).toMatchObject({ ok: true });
    await bench.json(['restore', '2', '--disk', 'd=restored.raw'], env);
    expect(fileHolds(bench.path('restored.raw'), contents[1]!)).toBe(true);
  });
});
