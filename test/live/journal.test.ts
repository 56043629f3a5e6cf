// SPDX-License-Identifier: MIT
// The journal by itself: what counts after a kill, after a power cut, and after damage.

import { describe, expect, it } from 'vitest';
import { FailedError, VmarError } from '#vmar/src/base/errors.js';
import { Journal } from '#vmar/src/live/journal.js';
import { decodeRecord, encodeRecord, RECORD_BYTES } from '#vmar/src/live/journal-record.js';
import { seededRandom } from '../base/random.js';
import { type Fault, ForgetfulPlace } from './forgetful-files.js';
import { GRANULE, granulesOf, load, newJournal, optionsFor } from './journal-fixture.js';

const SIZE = 64 * GRANULE - 100;

const mark = (journal: Journal, granule: number, count = 1): Promise<void> =>
  journal.record(granule * GRANULE, Math.min(SIZE, (granule + count) * GRANULE) - granule * GRANULE);

describe('a record', () => {
  it('comes back as it went, and any changed bit is noticed', () => {
    const records = [
      { kind: 'held', sequence: 5, offsetBytes: 2 ** 45, lengthBytes: 4096 },
      { kind: 'checkpoint', sequence: 2 ** 50, covered: 17 },
      { kind: 'distrust', sequence: 1 },
      { kind: 'complete', sequence: 2 },
    ] as const;
    for (const record of records) {
      const bytes = Buffer.alloc(RECORD_BYTES);
      encodeRecord(record, 99, bytes, 0);
      expect(decodeRecord(bytes, 99, 0)).toEqual(record);
      expect(decodeRecord(bytes, 98, 0)).toBeUndefined();
      for (let bit = 0; bit < RECORD_BYTES * 8; bit++) {
        const flipped = Buffer.from(bytes);
        flipped[bit >> 3]! ^= 1 << (bit & 7);
        expect(decodeRecord(flipped, 99, 0)).toBeUndefined();
      }
    }
    expect(decodeRecord(Buffer.alloc(RECORD_BYTES), 99, 0)).toBeUndefined();
  });
});

describe('a journal', () => {
  it('counts all records in the boot that wrote them, and what is checkpointed in another', async () => {
    const place = new ForgetfulPlace();
    const journal = await newJournal(place, SIZE);
    await Promise.all([mark(journal, 3), mark(journal, 4, 2)]);
    await journal.checkpoint(journal.lastSequence);
    await mark(journal, 63);
    expect(granulesOf((await load(place)).held)).toEqual([3, 4, 5, 63]);
    const later = await load(place, 'boot-2');
    expect(granulesOf(later.held)).toEqual([3, 4, 5]);
    expect(later.tail).toBeUndefined();
    await journal.close();
  });

  it('does not let a checkpoint cover what was recorded after the flush began', async () => {
    const place = new ForgetfulPlace();
    const journal = await newJournal(place, SIZE);
    await mark(journal, 1);
    const covered = journal.lastSequence;
    await mark(journal, 2);
    await journal.checkpoint(covered);
    expect(granulesOf((await load(place, 'boot-2')).held)).toEqual([1]);
    expect(granulesOf((await load(place)).held)).toEqual([1, 2]);
  });

  it('is gone on with after a kill', async () => {
    let place = new ForgetfulPlace();
    await mark(await newJournal(place, SIZE), 1);
    for (const granule of [2, 3]) {
      place = place.afterKill();
      const loaded = await load(place);
      const journal = await Journal.resume(optionsFor(place, SIZE), (await place.open())!, loaded, loaded.tail!);
      await mark(journal, granule);
    }
    expect(granulesOf((await load(place)).held)).toEqual([1, 2, 3]);
    expect(granulesOf((await load(place, 'boot-2')).held)).toEqual([]);
  });

  it('counts nothing that a checkpoint does not cover once the target could not be flushed', async () => {
    const place = new ForgetfulPlace();
    const journal = await newJournal(place, SIZE);
    await mark(journal, 1);
    await journal.checkpoint(journal.lastSequence);
    await mark(journal, 2);
    await journal.distrust();
    await expect(mark(journal, 3)).rejects.toMatchObject({ code: 'target-untrusted' });
    const loaded = await load(place);
    expect(granulesOf(loaded.held)).toEqual([1]);
    expect(loaded.tail).toBeUndefined();
  });

  it('is complete in any boot once it says so', async () => {
    const place = new ForgetfulPlace();
    const journal = await newJournal(place, SIZE);
    await mark(journal, 0, 64);
    expect((await load(place)).isComplete).toBe(false);
    await journal.complete();
    for (const boot of ['boot-1', 'boot-2']) {
      expect(await load(place, boot)).toMatchObject({ isComplete: true });
    }
  });

  it('refuses what it cannot write, and does not count it', async () => {
    let room = 2;
    const fault: Fault = (operation) => {
      if (operation === 'write' && room-- <= 0) throw Object.assign(new Error('full'), { code: 'ENOSPC' });
    };
    const place = new ForgetfulPlace(undefined, fault);
    const journal = await newJournal(place, SIZE);
    await mark(journal, 1);
    await expect(mark(journal, 2)).rejects.toMatchObject({ code: 'state-failed' });
    room = 10;
    await mark(journal, 3);
    expect(granulesOf((await load(place)).held)).toEqual([1, 3]);
  });

  it('takes nothing more when it cannot be synced', async () => {
    let fails = false;
    const place = new ForgetfulPlace(undefined, (operation) => {
      if (fails && operation === 'sync') throw Object.assign(new Error('lost'), { code: 'EIO' });
    });
    const journal = await newJournal(place, SIZE);
    await mark(journal, 1);
    fails = true;
    await expect(journal.checkpoint(journal.lastSequence)).rejects.toBeInstanceOf(FailedError);
    fails = false;
    await expect(mark(journal, 2)).rejects.toBeInstanceOf(FailedError);
  });

  it('begins a new generation when records take much, and loses none', async () => {
    const random = seededRandom(4);
    const place = new ForgetfulPlace(random);
    const journal = await newJournal(place, SIZE, { compactBytes: 1024 });
    const first = place.named;
    const granules = new Set<number>();
    for (let round = 0; round < 3000; round++) {
      const granule = random.integer(0, 63);
      granules.add(granule);
      const done = mark(journal, granule);
      if (random.oneIn(3)) await done;
    }
    await journal.close();
    expect(place.named).not.toBe(first);
    expect(place.named!.cache.length).toBeLessThan(3000 * RECORD_BYTES);
    expect(granulesOf((await load(place)).held)).toEqual([...granules].sort((a, b) => a - b));
  });
});

describe('a damaged state file', () => {
  /** A file of some records, and what counts after each of them. */
  async function sample() {
    const place = new ForgetfulPlace();
    const journal = await newJournal(place, SIZE);
    const counts: number[][] = [[]];
    const start = place.named!.cache.length;
    for (const granule of [7, 3, 9, 12]) {
      await mark(journal, granule);
      counts.push([...counts.at(-1)!, granule].sort((a, b) => a - b));
    }
    return { place, bytes: Buffer.from(place.named!.cache), start, counts };
  }

  it('cut off at any byte counts up to its last whole record, or is refused', async () => {
    const { place, bytes, start, counts } = await sample();
    for (let length = 0; length < bytes.length; length++) {
      place.named!.cache = Buffer.from(bytes.subarray(0, length));
      const loaded = await load(place).catch((error: unknown) => error);
      if (length < start) {
        expect(loaded).toBeInstanceOf(VmarError);
        expect(loaded).toMatchObject({ code: length < 16 ? 'not-a-state-file' : 'state-damaged', object: '/state' });
      } else {
        const whole = Math.floor((length - start) / RECORD_BYTES);
        expect(granulesOf((loaded as Awaited<ReturnType<typeof load>>).held)).toEqual(counts[whole]);
      }
    }
  });

  it('with any bit changed is refused, or ends before it', async () => {
    const { place, bytes, start, counts } = await sample();
    for (let bit = 0; bit < bytes.length * 8; bit += bit < start * 8 ? 3 : 1) {
      const flipped = Buffer.from(bytes);
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      place.named!.cache = flipped;
      const loaded = await load(place).catch((error: unknown) => error);
      if (loaded instanceof Error) expect(loaded, `bit ${bit}`).toBeInstanceOf(VmarError);
      else {
        // Only what fills the page up, and the last record, can go unnoticed.
        const { held } = loaded as Awaited<ReturnType<typeof load>>;
        expect([counts[3], counts[4]]).toContainEqual(granulesOf(held));
      }
    }
  });

  it('with garbage behind it is gone on with', async () => {
    const { place, bytes, counts } = await sample();
    place.named!.cache = Buffer.concat([bytes, seededRandom(1).bytes(1000)]);
    expect(granulesOf((await load(place)).held)).toEqual(counts[4]);
  });

  it('after a power cut ends at the first hole, unless a synced record was changed', async () => {
    const place = new ForgetfulPlace();
    const journal = await newJournal(place, SIZE);
    const start = place.named!.cache.length;
    await mark(journal, 1);
    await journal.checkpoint(journal.lastSequence);
    await mark(journal, 2);
    await journal.checkpoint(journal.lastSequence);
    place.named!.cache.fill(0, start + 2 * RECORD_BYTES, start + 3 * RECORD_BYTES);
    expect(granulesOf((await load(place, 'boot-2')).held)).toEqual([1]);
    await expect(load(place)).rejects.toMatchObject({ code: 'state-damaged' });
    place.named!.cache[start + 2 * RECORD_BYTES + 9] = 1;
    await expect(load(place, 'boot-2')).rejects.toMatchObject({ code: 'state-damaged' });
  });
});
