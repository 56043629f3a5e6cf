// SPDX-License-Identifier: MIT
// A disk of a backup as a block device reads as what was backed up, whatever is asked for.

import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type BackupDisk, openBackupDisk } from '#vmar/src/archive/backup-disk.js';
import { seededRandom } from '../base/random.js';
import { scratchDirectory } from '../base/scratch.js';
import { withBackup } from './one-backup.js';
import { randomDisk } from './random-disk.js';
import type { MemoryDisk } from './world.js';

const base = scratchDirectory();
const SIZES = [5 * (1 << 20) + 12345, 1, 65536, 0, 40 * 65536 - 1, 3 * 65536 + 1];

function disksOf(clusterSizeBytes: number): MemoryDisk[] {
  return SIZES.map((size, index) => ({ name: `disk${index}`, content: randomDisk(index + 1, size, clusterSizeBytes) }));
}

const ROUNDS = 400;

describe.each([
  ['datastore', 'blake3', 65536],
  ['datastore', 'sha256', 65536],
  ['archive', 'blake3', 65536],
  ['archive', 'sha256', 262144],
] as const)('a backup in a %s with %s and clusters of %i bytes', (kind, hash, clusterSizeBytes) => {
  const using = (name: string, test: (device: BackupDisk, truth: Uint8Array, seed: number) => Promise<void>) =>
    it(name, async () => {
      const disks = disksOf(clusterSizeBytes);
      await withBackup(join(base, `${kind}-${hash}`), { kind, hash, clusterSizeBytes }, disks, async (backup) => {
        for (const [index, { name, content }] of disks.entries()) {
          const device = await openBackupDisk(backup, name);
          expect(device).toMatchObject({ lengthBytes: content.byteLength, readOnly: true, alignmentBytes: 1 });
          await test(device, content, index + 1);
          await device.close();
        }
      });
    });

  using('reads as the disk in any range', async (device, truth, seed) => {
    const random = seededRandom(seed);
    for (let round = 0; round < ROUNDS; round++) {
      const from = random.integer(0, truth.byteLength);
      const most = random.oneIn(10) ? truth.byteLength : random.integer(0, 150_000);
      const into = Buffer.alloc(Math.min(most, truth.byteLength - from), 0xee);
      await device.read(from, into);
      if (!into.equals(truth.subarray(from, from + into.byteLength)))
        throw new Error(`wrong, seed ${seed}, from ${from}`);
    }
  });

  using('says what is zero by whole clusters', async (device, truth) => {
    for (let at = 0; at < truth.byteLength; ) {
      const extents = await device.blockStatus(at, truth.byteLength - at);
      expect(extents.length).toBeGreaterThan(0);
      for (const { offsetBytes, lengthBytes, state } of extents) {
        expect(offsetBytes).toBe(at);
        expect(lengthBytes).toBeGreaterThan(0);
        for (let from = at; from < at + lengthBytes; from += clusterSizeBytes) {
          const isZero = truth
            .subarray(from, Math.min(from + clusterSizeBytes, at + lengthBytes))
            .every((byte) => byte === 0);
          expect(isZero ? 'zero' : 'data').toBe(state);
        }
        at += lengthBytes;
      }
      expect(at).toBeLessThanOrEqual(truth.byteLength);
    }
  });

  using('refuses ranges past its end, and every change', async (device, truth) => {
    const refused = { code: 'out-of-range', object: device.name };
    await expect(device.read(truth.byteLength, new Uint8Array(1))).rejects.toMatchObject(refused);
    await expect(device.blockStatus(truth.byteLength, 1)).rejects.toMatchObject(refused);
    await device.read(truth.byteLength, new Uint8Array(0));
    const readOnly = { code: 'read-only', object: device.name };
    await expect(device.write(0, new Uint8Array(0))).rejects.toMatchObject(readOnly);
    await expect(device.writeZeroes(0, 0)).rejects.toMatchObject(readOnly);
    await expect(device.discard(0, 0)).rejects.toMatchObject(readOnly);
    await device.flush();
  });
});
