// SPDX-License-Identifier: MIT
// Random writes to a live restore in memory, killed or cut off at random moments, again and again. VMAR_LIVE_ROUNDS
// makes a long campaign of it, VMAR_LIVE_SEED repeats one.
//
// After a kill every byte is what was acknowledged last, or what was being written. After a power cut it is what the
// last flush before made durable, or something written since. Ranges that nobody wrote to read as the backup, always.

import { describe, expect, it } from 'vitest';
import { BlockNode } from '#vmar/src/block/block-node.js';
import { DirtyBitmap } from '#vmar/src/block/dirty-bitmap.js';
import { AllocTrack } from '#vmar/src/block/filters/alloc-track.js';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import { Journal } from '#vmar/src/live/journal.js';
import { RecordedTarget } from '#vmar/src/live/recorded-target.js';
import { type Random, seededRandom } from '../base/random.js';
import { CachedBytes, ForgetfulDevice, ForgetfulPlace } from './forgetful-files.js';
import { load, optionsFor } from './journal-fixture.js';

const ROUNDS = Number(process.env.VMAR_LIVE_ROUNDS ?? 40);
const SEED = Number(process.env.VMAR_LIVE_SEED ?? Math.floor(Math.random() * 2 ** 31));
console.info(`VMAR_LIVE_SEED=${SEED} VMAR_LIVE_ROUNDS=${ROUNDS}`);

/** As small as a sector: many records, and few bytes to compare. */
const GRANULE = 512;
const GRANULES = 192;
const SIZE = GRANULES * GRANULE - 100;
const WRITERS = 4;

/** A write of the guest. Time is counted in events. */
interface Write {
  readonly offset: number;
  readonly data: Uint8Array;
  acknowledged: number | undefined;
}

/** What each byte may be. */
class Truth {
  /** What the last flush covers. */
  readonly durable: Buffer;
  /** Acknowledged last. */
  readonly acknowledged: Buffer;
  /** All that the last flush does not cover. */
  writes: Write[] = [];
  #now = 0;
  #flushed = 0;

  constructor(content: Uint8Array) {
    this.durable = Buffer.from(content);
    this.acknowledged = Buffer.from(content);
  }

  /** Gives what to call when it was acknowledged. */
  beginWrite(offset: number, data: Uint8Array): () => void {
    const write: Write = { offset, data, acknowledged: undefined };
    this.writes.push(write);
    return () => {
      write.acknowledged = ++this.#now;
      this.acknowledged.set(data, offset);
    };
  }

  beginFlush(): () => void {
    const began = ++this.#now;
    const was = Buffer.from(this.acknowledged);
    return () => {
      if (began < this.#flushed) return;
      this.#flushed = began;
      was.copy(this.durable);
      this.writes = this.writes.filter(({ acknowledged }) => acknowledged === undefined || acknowledged > began);
    };
  }

  /** The truth at this moment. */
  freeze(): Truth {
    const copy = new Truth(this.acknowledged);
    this.durable.copy(copy.durable);
    copy.writes = this.writes.map((write) => ({ ...write }));
    return copy;
  }

  check(found: Uint8Array, after: 'kill' | 'power cut'): void {
    const certain = after === 'kill' ? this.acknowledged : this.durable;
    const writes = this.writes.filter(({ acknowledged }) => after === 'power cut' || acknowledged === undefined);
    for (let at = 0; at < SIZE; at++) {
      const byte = found[at]!;
      if (byte === certain[at] || writes.some(({ offset, data }) => data[at - offset] === byte)) continue;
      throw new Error(`after a ${after} byte ${at} is ${byte}, not ${certain[at]}`);
    }
  }
}

/** The files, and whether the process that uses them is alive. */
class Machine {
  target = new CachedBytes();
  place = new ForgetfulPlace();
  boot = 1;
  backing = new MemoryDevice(SIZE);

  constructor(readonly random: Random) {
    this.target.resize(SIZE);
    this.target.sync();
  }

  /** One life of the process; `isAlive` turns false when it is killed. */
  async start(isAlive: () => boolean) {
    const { random } = this;
    const fault = () => {
      if (!isAlive()) throw new Error('killed');
    };
    const device = new ForgetfulDevice(this.target, SIZE, random, fault);
    const place = Object.assign(this.place.afterKill(), { random, fault });
    // What the process does to its files is seen by the next one, until it is killed.
    this.place = place;
    const recorded = new RecordedTarget(device, SIZE);
    const options = {
      ...optionsFor(place, SIZE, { compactBytes: random.integer(200, 3000) }),
      bootId: `boot-${this.boot}`,
      flushTarget: () => recorded.flush(),
    };
    const file = await place.open();
    let held = new DirtyBitmap(SIZE, GRANULE);
    let journal: Journal;
    if (file === undefined) journal = await Journal.create(options, held);
    else {
      const loaded = await load(place, options.bootId);
      held = loaded.held;
      if (loaded.tail !== undefined) journal = await Journal.resume(options, file, loaded, loaded.tail);
      else {
        await device.flush();
        journal = await Journal.create(options, held);
      }
    }
    recorded.journal = journal;
    const filter = new AllocTrack(new BlockNode(recorded), {
      backing: this.backing,
      held,
      targetIsZero: file === undefined,
      copyOnRead: true,
      onHeld: (offset, length) => journal.record(offset, length),
    });
    return { filter, journal };
  }

  cutPower(): void {
    const { random } = this;
    this.target = this.target.afterPowerCut(random);
    this.place = this.place.afterPowerCut(random);
    this.boot++;
  }
}

/** A guest that never writes to one place twice at once. */
async function runGuest(filter: AllocTrack, truth: Truth, random: Random, part: number): Promise<void> {
  const size = Math.floor(SIZE / WRITERS);
  const start = part * size;
  for (let round = 0; round < 100; round++) {
    const offset = start + random.integer(0, size - 1);
    const length = random.integer(1, Math.min(start + size - offset, random.oneIn(3) ? 3 * GRANULE : 200));
    const turn = random.integer(0, 30);
    if (turn === 0) {
      const acknowledged = truth.beginFlush();
      await filter.flush();
      acknowledged();
    } else if (turn <= 5) {
      const acknowledged = truth.beginWrite(offset, Buffer.alloc(length));
      await filter.writeZeroes(offset, length);
      acknowledged();
    } else if (turn <= 9) {
      const found = Buffer.alloc(length);
      await filter.read(offset, found);
      expect(found.equals(truth.acknowledged.subarray(offset, offset + length))).toBe(true);
    } else {
      const data = random.bytes(length);
      const acknowledged = truth.beginWrite(offset, data);
      await filter.write(offset, data);
      acknowledged();
    }
  }
}

async function runFill(filter: AllocTrack, random: Random): Promise<void> {
  for (let round = 0; round < 5; round++) {
    await filter.fill(random.integer(0, SIZE - 1), 1);
    for (let turns = random.integer(0, 60); turns > 0; turns--) await new Promise(setImmediate);
  }
}

async function readAll(filter: AllocTrack): Promise<Buffer> {
  const found = Buffer.alloc(SIZE);
  await filter.read(0, found);
  return found;
}

async function lifeAndDeath(random: Random): Promise<{ kills: number; cuts: number }> {
  const machine = new Machine(random);
  for (let granule = 0; granule < GRANULES; granule++) {
    const at = granule * GRANULE;
    if (!random.oneIn(3)) await machine.backing.write(at, random.bytes(Math.min(GRANULE, SIZE - at)));
  }
  const content = Buffer.alloc(SIZE);
  await machine.backing.read(0, content);
  let truth = new Truth(content);
  const counts = { kills: 0, cuts: 0 };
  for (let life = 0; life < 4; life++) {
    let isAlive = true;
    const { filter, journal } = await machine.start(() => isAlive);
    const quietly = (work: Promise<void>) =>
      work.catch((error: unknown) => {
        if (isAlive) throw error;
      });
    const work = Array.from({ length: WRITERS }, (_, part) => quietly(runGuest(filter, truth, random, part)));
    work.push(quietly(runFill(filter, random)));
    for (let turns = random.integer(0, 700); turns > 0; turns--) await new Promise(setImmediate);
    // From here on nothing that the old process does reaches its files, and nothing more is acknowledged.
    isAlive = false;
    const cut = random.oneIn(2);
    if (cut) machine.cutPower();
    counts[cut ? 'cuts' : 'kills']++;
    const frozen = truth.freeze();
    await Promise.all(work);
    await journal.close().catch(() => undefined);

    const next = await machine.start(() => true);
    const found = await readAll(next.filter);
    frozen.check(found, cut ? 'power cut' : 'kill');
    // Whatever is filled now, nothing else shows.
    if (random.oneIn(3)) await next.filter.fill(0, SIZE);
    expect((await readAll(next.filter)).equals(found)).toBe(true);
    await next.filter.flush();
    await next.journal.close();
    truth = new Truth(found);
  }
  return counts;
}

describe('a live restore that is killed or loses power', () => {
  it(
    'shows every write that was acknowledged, or flushed, and never old data over it',
    async () => {
      const random = seededRandom(SEED);
      let kills = 0;
      let cuts = 0;
      for (let round = 0; round < ROUNDS; round++) {
        const seed = random.integer(0, 2 ** 31);
        const counts = await lifeAndDeath(seededRandom(seed)).catch((error: unknown) => {
          throw new Error(`round ${round}, seed ${seed}`, { cause: error });
        });
        kills += counts.kills;
        cuts += counts.cuts;
      }
      console.info(`${kills} kills, ${cuts} power cuts`);
      expect(Math.min(kills, cuts)).toBeGreaterThan(0);
    },
    60_000 + ROUNDS * 1000,
  );
});
