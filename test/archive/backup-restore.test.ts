// SPDX-License-Identifier: MIT
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../base/random.js';
import { scratchDirectory } from '../base/scratch.js';
import { CLUSTER, type MemoryDisk, World } from './world.js';

const base = scratchDirectory();

/** A disk of data that compresses, data that does not, zeros and repetitions. */
function randomDisk(seed: number, sizeBytes: number): Uint8Array {
  const random = seededRandom(seed);
  const content = new Uint8Array(sizeBytes);
  for (let at = 0; at < sizeBytes; at += CLUSTER) {
    const piece = content.subarray(at, at + CLUSTER);
    const what = random.integer(0, 4);
    if (what === 0) continue;
    if (what === 1) piece.set(random.bytes(piece.byteLength));
    else if (what === 2) piece.fill(random.integer(1, 255));
    else if (what === 3)
      Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength).fill(`text ${random.integer(0, 20)} `);
    else if (at >= CLUSTER && piece.byteLength === CLUSTER) piece.set(content.subarray(0, CLUSTER));
  }
  return content;
}

function changed(disk: Uint8Array, seed: number): Uint8Array {
  const random = seededRandom(seed);
  const copy = Uint8Array.from(disk);
  for (let n = 0; n < 6; n++) {
    const at = random.integer(0, copy.byteLength - 1);
    copy.set(random.bytes(Math.min(random.integer(1, 3 * CLUSTER), copy.byteLength - at)), at);
  }
  return copy;
}

describe.each([
  ['blake3', 0],
  ['sha256', 0],
  ['blake3', 2],
] as const)('a datastore with %s and %i workers', (hash, workers) => {
  it('gives back every night of every disk, to the byte, and verifies clean', async () => {
    const world = await World.create(join(base, `w-${hash}-${workers}`), { hash, workers });
    const sizes = [3 * (1 << 20) + 12345, 1, CLUSTER, 0, 40 * CLUSTER - 1];
    let disks: MemoryDisk[] = sizes.map((size, i) => ({ name: `disk${i}`, content: randomDisk(i + 1, size) }));
    const nights: MemoryDisk[][] = [];
    for (let night = 0; night < 3; night++) {
      const result = await world.backup('100', disks, 1_760_000_000 + night * 86400);
      nights.push(disks);
      for (const [i, counts] of result.disks.entries()) {
        expect(counts.readBytes).toBeLessThanOrEqual(sizes[i]!);
        if (night > 0) expect(counts.newBytes).toBeLessThan(Math.max(1, sizes[i]!));
      }
      disks = disks.map(({ name, content }, i) => ({
        name,
        content: content.byteLength > CLUSTER ? changed(content, night * 10 + i) : content,
      }));
    }
    const report = await world.verify();
    expect(report.damage).toEqual([]);
    expect(report.checked.backups).toBe(3);
    expect((await world.verify('quick')).damage).toEqual([]);
    for (const [night, saved] of nights.entries()) {
      const time = new Date((1_760_000_000 + night * 86400) * 1000).toISOString().replace('.000Z', 'Z');
      for (const { name, content } of saved) {
        const restored = await world.restore(`vm/100/${time}`, name);
        expect(restored.content.equals(content)).toBe(true);
      }
    }
  });

  it('stores nothing of an unchanged night but the manifest', async () => {
    const world = await World.create(join(base, `u-${hash}-${workers}`), { hash, workers });
    const disks = [{ name: 'a', content: randomDisk(5, 20 * CLUSTER + 17) }];
    await world.backup('1', disks, 1000);
    const second = await world.backup('1', disks, 2000);
    expect(second.disks[0]!.newBytes).toBe(0);
    expect(second.disks[0]!.storedBytes).toBe(0);
    expect(second.disks[0]!.unchangedBytes + second.disks[0]!.zeroBytes).toBe(disks[0]!.content.byteLength);
  });

  it('gives two backups of one second two names', async () => {
    const world = await World.create(join(base, `s-${hash}-${workers}`), { hash, workers });
    const disks = [{ name: 'a', content: randomDisk(6, CLUSTER) }];
    expect((await world.backup('1', disks, 1000)).backup).toBe('vm/1/1970-01-01T00:16:40Z');
    expect((await world.backup('1', disks, 1000)).backup).toBe('vm/1/1970-01-01T00:16:41Z');
  });
});
