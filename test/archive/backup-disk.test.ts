// SPDX-License-Identifier: MIT
// A disk of a backup as a block device reads as what was backed up, whatever is asked for.

import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type BackupDisk, openBackupDisk } from '#vmar/src/archive/backup-disk.js';
import { createExecutor } from '#vmar/src/pipeline/executor.js';
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
  ['datastore', 'blake3', 65536, 2],
  ['datastore', 'sha256', 65536, 0],
  ['archive', 'blake3', 65536, 0],
  ['archive', 'sha256', 262144, 2],
] as const)(
  'a backup in a %s with %s, clusters of %i bytes, and %i threads',
  (kind, hash, clusterSizeBytes, workers) => {
    const executor = createExecutor({ workers, hash, level: 1, clusterSizeBytes, pools: [] });
    afterAll(() => executor.close());

    const using = (name: string, test: (device: BackupDisk, truth: Uint8Array, seed: number) => Promise<void>) =>
      it(name, async () => {
        const disks = disksOf(clusterSizeBytes);
        await withBackup(join(base, `${kind}-${hash}`), { kind, hash, clusterSizeBytes }, disks, async (backup) => {
          for (const [index, { name, content }] of disks.entries()) {
            const device = await openBackupDisk(backup, name, workers === 0 ? {} : { executor });
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

    using('reads the same when many read at once, into memory that others share', async (device, truth, seed) => {
      const random = seededRandom(seed);
      const reads = Array.from({ length: 200 }, async () => {
        const from = random.integer(0, truth.byteLength);
        const length = Math.min(random.integer(0, 300_000), truth.byteLength - from);
        const into = new Uint8Array(new SharedArrayBuffer(length + 2)).fill(0xee);
        await device.read(from, into.subarray(1, length + 1));
        expect(Buffer.from(into.subarray(1, length + 1)).equals(truth.subarray(from, from + length))).toBe(true);
        expect([into[0], into[length + 1]]).toEqual([0xee, 0xee]);
      });
      await Promise.all(reads);
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
  },
);
