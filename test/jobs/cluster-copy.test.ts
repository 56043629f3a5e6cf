// SPDX-License-Identifier: MIT
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { DirtyBitmap } from '#vmar/src/block/dirty-bitmap.js';
import type { MemoryDevice } from '#vmar/src/block/memory-device.js';
import type { ClusterTarget } from '#vmar/src/jobs/backup-target.js';
import { ClusterCopy } from '#vmar/src/jobs/cluster-copy.js';
import { type Random, seededRandom } from '../base/random.js';
import { TestDisk } from './test-disk.js';

const CLUSTER = 65_536;
const PIECE = 4 * CLUSTER;

/** Notes what it gets; fails where it is told to. */
class NotingTarget implements ClusterTarget {
  readonly clusterSizeBytes = CLUSTER;
  readonly pieceBytes = PIECE;
  readonly zeroPieceBytes = Number.MAX_SAFE_INTEGER;
  readonly holdsUnchanged = true;
  readonly failsForGood = false;
  readonly got: { how: 'read' | 'zero' | 'kept'; from: number; to: number }[] = [];
  leased = 0;
  failOneIn = 0;

  constructor(private readonly random: Random) {}

  async lease(): Promise<Uint8Array> {
    this.leased++;
    return new Uint8Array(PIECE);
  }

  release(): void {
    this.leased--;
  }

  async write(offsetBytes: number, _slot: Uint8Array, lengthBytes: number): Promise<void> {
    this.leased--;
    await this.#take('read', offsetBytes, lengthBytes);
  }

  writeZeroes(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.#take('zero', offsetBytes, lengthBytes);
  }

  keep(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.#take('kept', offsetBytes, lengthBytes);
  }

  async flush(): Promise<void> {}

  async #take(how: 'read' | 'zero' | 'kept', from: number, lengthBytes: number): Promise<void> {
    for (let turns = this.random.integer(0, 3); turns > 0; turns--) await turn();
    if (this.failOneIn > 0 && this.random.oneIn(this.failOneIn)) throw new Error('target');
    this.got.push({ how, from, to: from + lengthBytes });
  }
}

function setUp(source: MemoryDevice, random = seededRandom(1)) {
  const remaining = new DirtyBitmap(source.lengthBytes, CLUSTER);
  remaining.set(0, source.lengthBytes);
  const target = new NotingTarget(random);
  let copiedBytes = 0;
  const onCopied = (_how: string, bytes: number) => {
    copiedBytes += bytes;
  };
  const copy = new ClusterCopy({ source, target, remaining, lease: () => target.lease(), onCopied });
  return { copy, target, copied: () => copiedBytes };
}

describe('ClusterCopy', () => {
  it('copies the clusters that a request touches, and is done at once the next time', async () => {
    const disk = new TestDisk(10 * CLUSTER + 7);
    const { copy, target } = setUp(disk);
    expect(await copy.copyBefore(CLUSTER - 1, 2)).toBeUndefined();
    expect(await copy.copyBefore(10 * CLUSTER + 3, 1)).toBeUndefined();
    expect(target.got.map(({ from, to }) => [from, to])).toEqual([
      [0, 2 * CLUSTER],
      [10 * CLUSTER, 10 * CLUSTER + 7],
    ]);
    expect(copy.copyBefore(0, 2 * CLUSTER)).toBeUndefined();
    expect(copy.copyBefore(CLUSTER, CLUSTER + 1)).toBeInstanceOf(Promise);
    await copy.settled();
  });

  it('hands over a hole of 64 TiB in one call', async () => {
    const disk = new TestDisk(64 * 2 ** 40);
    await disk.write(2 ** 40, Buffer.alloc(1, 1));
    const { copy, target, copied } = setUp(disk);
    expect(await copy.copyBefore(0, disk.lengthBytes)).toBeUndefined();
    expect(target.got.filter(({ how }) => how === 'zero').length).toBe(2);
    expect(disk.readBytes).toBeLessThanOrEqual(PIECE);
    expect(copied()).toBe(disk.lengthBytes);
    expect(target.leased).toBe(0);
  });

  it.each(Array.from({ length: 15 }, (_, seed) => seed))(
    'copies each cluster once, whoever asks for it, also after failures, seed %i',
    async (seed) => {
      const random = seededRandom(seed);
      const disk = new TestDisk(random.integer(1, 4_000_000));
      for (let count = 8; count > 0; count--) {
        const from = random.integer(0, disk.lengthBytes - 1);
        await disk.write(from, random.bytes(Math.min(random.integer(1, 300_000), disk.lengthBytes - from)));
      }
      disk.random = random;
      const { copy, target, copied } = setUp(disk, random);
      target.failOneIn = 5;
      const ask = async () => {
        for (let times = 30; times > 0; times--) {
          const from = random.integer(0, disk.lengthBytes - 1);
          const length = random.integer(1, Math.min(disk.lengthBytes - from, random.oneIn(4) ? 2_000_000 : 5000));
          const failure = await copy.copyBefore(from, length);
          if (failure) expect(failure).toMatchObject({ where: 'target' });
          else expect(copy.remaining.nextDirty(from, from + length)).toBeUndefined();
          const request = await copy.requests.begin(from, length);
          await turn();
          request.end();
        }
      };
      await Promise.all([ask(), ask(), ask(), ask()]);
      target.failOneIn = 0;
      await copy.copyBefore(0, disk.lengthBytes);
      await copy.settled();
      const sorted = target.got.sort((a, b) => a.from - b.from);
      let at = 0;
      for (const { from, to } of sorted) {
        expect(from).toBe(at);
        at = to;
      }
      expect([at, copied(), target.leased]).toEqual([disk.lengthBytes, disk.lengthBytes, 0]);
      expect(copy.remaining.isClean).toBe(true);
      expect(copy.requests.size).toBe(0);
    },
  );

  it('gives a slot back to the caller where somebody else is at work', async () => {
    const disk = new TestDisk(10 * CLUSTER);
    const { copy, target } = setUp(disk);
    const request = await copy.requests.begin(CLUSTER + 5, 1);
    const slot = await target.lease();
    const run = { offsetBytes: 0, lengthBytes: PIECE };
    expect(copy.tryCopy(run, slot, () => {})).toBeUndefined();
    expect(copy.remaining.nextClean(0)).toBeUndefined();
    request.end();
    let read = 0;
    expect(await copy.tryCopy(run, slot, () => read++)).toBeUndefined();
    expect([read, copy.remaining.nextDirty(0), target.leased]).toEqual([1, PIECE, 0]);
  });

  it('tells which side failed, and leaves what was not copied to be copied', async () => {
    const disk = new TestDisk(10 * CLUSTER);
    const { copy, target } = setUp(disk);
    disk.failAt = 100;
    expect(await copy.copyBefore(0, 1)).toMatchObject({ where: 'source', error: { code: 'read-failed' } });
    target.failOneIn = 1;
    expect(await copy.copyHole(CLUSTER, 2 * CLUSTER)).toMatchObject({ where: 'target' });
    expect(await copy.keep(CLUSTER, 2 * CLUSTER)).toMatchObject({ where: 'target' });
    expect([copy.remaining.dirtyBytes, target.leased]).toEqual([10 * CLUSTER, 0]);
  });
});
