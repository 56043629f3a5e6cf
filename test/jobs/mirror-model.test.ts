// SPDX-License-Identifier: MIT
// Mirrors under guests that write, with faults, pauses and speeds that come as they like. A plain array of bytes is the
// truth. Every line that fails tells its seed.

import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { type Clock, REAL_CLOCK } from '#vmar/src/base/clock.js';
import { BlockNode } from '#vmar/src/block/block-node.js';
import { type MirrorCopyMode, MirrorJob } from '#vmar/src/jobs/mirror-job.js';
import { insertBacking } from '#vmar/src/jobs/stream-node.js';
import { type Random, seededRandom } from '../base/random.js';
import { ioError, LivelyDevice, noSpace } from './lively-device.js';

/** Rests are over after a turn or two. */
const HASTY_CLOCK: Clock = { ...REAL_CLOCK, sleep: (_millis, signal) => REAL_CLOCK.sleep(1, signal) };

/** Writers of one guest: each changes its own part of the disk, so that the truth is known, in no step with chunks. */
class Guest {
  readonly model: Buffer;
  isOver = false;
  isResting = false;
  changes = 0;
  readonly #writers: Promise<void>[] = [];

  constructor(
    private readonly disk: BlockNode,
    private readonly random: Random,
    initial: Buffer,
  ) {
    this.model = Buffer.from(initial);
  }

  start(writers: number): void {
    const share = Math.floor(this.disk.lengthBytes / writers);
    for (let number = 0; number < writers; number++) {
      const to = number === writers - 1 ? this.disk.lengthBytes : (number + 1) * share;
      this.#writers.push(this.#write(number * share, to));
    }
  }

  async end(): Promise<void> {
    this.isOver = true;
    await Promise.all(this.#writers);
  }

  async #write(from: number, to: number): Promise<void> {
    while (!this.isOver) {
      const at = this.random.integer(from, to - 1);
      const end = Math.min(to, at + (this.random.oneIn(5) ? 150_000 : this.random.integer(1, 6000)));
      await this.#change(at, end);
      while (this.isResting && !this.isOver) await turn();
      for (let turns = this.random.integer(0, 6); turns > 0; turns--) await turn();
    }
  }

  async #change(at: number, end: number): Promise<void> {
    this.changes++;
    const kind = this.random.integer(0, 5);
    if (kind === 0) {
      await this.disk.writeZeroes(at, end - at);
      this.model.fill(0, at, end);
    } else if (kind === 1) {
      // The devices of this test make it zeros.
      await this.disk.discard(at, end - at);
      this.model.fill(0, at, end);
    } else if (kind === 2) {
      const into = Buffer.alloc(end - at);
      await this.disk.read(at, into);
      expect(into.equals(this.model.subarray(at, end))).toBe(true);
    } else {
      const bytes = this.random.bytes(end - at);
      await this.disk.write(at, bytes);
      this.model.set(bytes, at);
    }
  }
}

interface Trial {
  readonly random: Random;
  readonly old: LivelyDevice;
  readonly target: LivelyDevice;
  readonly node: BlockNode;
  readonly job: MirrorJob;
  readonly guest: Guest;
  readonly copyMode: MirrorCopyMode;
}

async function newTrial(seed: number): Promise<Trial> {
  const random = seededRandom(seed);
  const pick = <T>(...choices: T[]): T => choices[random.integer(0, choices.length - 1)] as T;
  const lengthBytes = random.integer(300_000, 900_000);
  const old = new LivelyDevice(lengthBytes, 'old', random);
  const target = new LivelyDevice(lengthBytes, 'target', random);
  for (let at = 0; at < lengthBytes; at += 50_000) {
    if (random.oneIn(2))
      await old.memory.write(at, random.bytes(Math.min(random.integer(1, 50_000), lengthBytes - at)));
  }
  const targetIsZero = random.oneIn(2);
  if (!targetIsZero) await target.memory.write(0, random.bytes(lengthBytes));
  const granularityBytes = pick(512, 4096, 16_384, 65_536);
  const copyMode = pick<MirrorCopyMode>('background', 'write-blocking');
  const node = new BlockNode(old);
  const job = new MirrorJob({
    ...{ source: node, target, sync: 'full', clock: HASTY_CLOCK, targetIsZero, granularityBytes, hasIoStatus: true },
    copyMode,
    bufferBytes: Math.max(granularityBytes, pick(65_536, 2 ** 20)),
    ...(random.oneIn(2) ? { targetClusterBytes: pick(65_536, 131_072) } : {}),
    onSourceError: pick('stop', 'ignore'),
    onTargetError: pick('stop', 'ignore'),
  });
  return { random, old, target, node, job, copyMode, guest: new Guest(node, random, await old.bytes()) };
}

/** Faults, pauses, and speeds; the job must live through all of them. */
async function disturb({ random, old, target, job }: Trial, steps: number): Promise<void> {
  target.fault = ({ operation, offsetBytes }) => {
    if (operation === 'status' || !random.oneIn(40)) return undefined;
    return random.oneIn(2) ? noSpace('target') : ioError('target', offsetBytes);
  };
  // A guest's own reads would fail with those of the job: only looks at the status do.
  old.fault = ({ operation }) => (operation === 'status' && random.oneIn(40) ? ioError('old') : undefined);
  for (let step = 0; step < steps; step++) {
    for (let turns = random.integer(1, 30); turns > 0; turns--) await turn();
    if (random.oneIn(3)) job.pause();
    if (random.oneIn(2)) job.resume();
    if (random.oneIn(4)) job.setSpeed(random.oneIn(2) ? 0 : random.integer(1, 50) * 2 ** 20);
  }
  target.fault = undefined;
  old.fault = undefined;
  job.setSpeed(0);
}

/**
 * Until the target has caught up, whatever the job was stopped for. Only where the mirror blocks writes can it be sure to
 * catch up with a guest that never rests.
 */
async function settle({ job, guest, copyMode }: Pick<Trial, 'job' | 'guest' | 'copyMode'>): Promise<void> {
  guest.isResting = copyMode === 'background';
  while (!job.isSynced || job.status !== 'ready') {
    if (job.status === 'concluded') await job.finished;
    job.resume();
    await turn();
  }
  guest.isResting = false;
}

/** VMAR_TEST_SEED is the first, VMAR_TEST_ROUNDS how many. */
const first = Number(process.env.VMAR_TEST_SEED ?? 1);
const seeds = Array.from({ length: Number(process.env.VMAR_TEST_ROUNDS ?? 24) }, (_, at) => first + at);
const LIMIT_MILLIS = 15_000;

describe('a mirror of a disk in use', () => {
  it.each(seeds)(
    'switches to a target that is the disk to the byte, seed %i',
    async (seed) => {
      const trial = await newTrial(seed);
      const { job, guest, node, target, old, random } = trial;
      guest.start(random.integer(1, 4));
      job.start();
      await disturb(trial, 40);
      await settle(trial);
      await job.complete();
      await job.finished;
      expect(node.device).toBe(target);
      const former = await old.bytes();
      const changes = guest.changes;
      while (!guest.isOver && guest.changes < changes + 20) await turn();
      await guest.end();
      expect((await target.bytes()).equals(guest.model)).toBe(true);
      expect((await old.bytes()).equals(former)).toBe(true);
      expect(job.progress().doneBytes).toBe(job.progress().totalBytes);
    },
    LIMIT_MILLIS,
  );

  it.each(seeds)(
    'cancelled when ready, leaves a target that is the disk as of then, seed %i',
    async (seed) => {
      const trial = await newTrial(seed + 1000);
      const { job, guest, node, target, old, random } = trial;
      guest.start(random.integer(1, 3));
      job.start();
      await disturb(trial, 15);
      await settle(trial);
      let atEnd: Buffer | undefined;
      const removed = node.removeFilter.bind(node);
      // The filter goes while the guest is held back.
      node.removeFilter = async (filter) => {
        atEnd = await old.bytes();
        await removed(filter);
      };
      job.cancel();
      await job.finished;
      expect(node.device).toBe(old);
      expect((await target.bytes()).equals(atEnd!)).toBe(true);
      await guest.end();
      expect((await old.bytes()).equals(guest.model)).toBe(true);
    },
    LIMIT_MILLIS,
  );

  it.each(seeds.slice(0, 8))(
    'cancelled at any moment, harms no guest, seed %i',
    async (seed) => {
      const trial = await newTrial(seed + 2000);
      const { job, guest, node, target, old, random } = trial;
      guest.start(2);
      job.start();
      await disturb(trial, random.integer(0, 20));
      job.cancel({ force: true });
      await expect(job.finished).rejects.toMatchObject({ code: 'interrupted' });
      expect(node.device).toBe(old);
      expect(target.underWay).toBe(0);
      await guest.end();
      expect((await old.bytes()).equals(guest.model)).toBe(true);
    },
    LIMIT_MILLIS,
  );

  it.each(seeds)(
    'of what is not backed, makes an overlay that shows the disk, seed %i',
    async (seed) => {
      const random = seededRandom(seed + 3000);
      const lengthBytes = random.integer(300_000, 900_000);
      const base = new LivelyDevice(lengthBytes, 'base', random);
      await base.memory.write(0, random.bytes(lengthBytes));
      const old = new LivelyDevice(lengthBytes, 'old', random);
      const target = new LivelyDevice(lengthBytes, 'target', random);
      const node = new BlockNode(old);
      await insertBacking(node, base, { targetIsZero: true });
      for (let writes = 0; writes < 5; writes++) {
        const at = random.integer(0, lengthBytes - 30_000);
        if (random.oneIn(3)) await node.writeZeroes(at, 30_000);
        else await node.write(at, random.bytes(random.integer(1, 30_000)));
      }
      const initial = Buffer.alloc(lengthBytes);
      await node.read(0, initial);
      const copyMode = random.oneIn(2) ? 'write-blocking' : 'background';
      const clusterBytes = random.oneIn(2) ? 65_536 : 16_384;
      const job = new MirrorJob({
        ...{ source: node, target, sync: 'top', clock: HASTY_CLOCK, copyMode, targetClusterBytes: clusterBytes },
        granularityBytes: random.oneIn(2) ? 4096 : 16_384,
      });
      const guest = new Guest(node, random, initial);
      job.start();
      guest.start(2);
      await settle({ job, guest, copyMode });
      // What a guest writes after the switch, the overlay would have to fill up itself.
      await guest.end();
      await job.complete();
      await job.finished;
      // As an overlay does: a cluster that was touched at all is the target's as a whole.
      const shown = await base.bytes();
      const own = await target.bytes();
      for (const { operation, offsetBytes, lengthBytes: length } of target.seen) {
        if (operation !== 'write' && operation !== 'zero') continue;
        const from = offsetBytes - (offsetBytes % clusterBytes);
        const to = Math.min(lengthBytes, Math.ceil((offsetBytes + length) / clusterBytes) * clusterBytes);
        own.copy(shown, from, from, to);
      }
      expect(shown.equals(guest.model)).toBe(true);
    },
    LIMIT_MILLIS,
  );
});
