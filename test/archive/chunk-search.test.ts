// SPDX-License-Identifier: MIT
// Damage is told apart from a datastore that is away, and what is lost is not looked for again and again.

import { describe, expect, it } from 'vitest';
import { ChunkSearch } from '#vmar/src/archive/chunk-search.js';
import type { ChunkPlace, ChunkSource } from '#vmar/src/archive/chunk-source.js';
import { ManualClock } from '#vmar/src/base/clock.js';
import { DamageError, FailedError } from '#vmar/src/base/errors.js';
import type { ContainerReader } from '#vmar/src/store/container-reader.js';

const id = new Uint8Array(32).fill(7);
const container = { path: 'pack' } as ContainerReader;
const place: ChunkPlace = { container, frame: 1, offsetBytes: 0, lengthBytes: 10 };

/** A datastore that has what it is told to have. */
class Source implements ChunkSource {
  readonly hash = 'blake3';
  places: ChunkPlace[] = [];
  isAway = false;
  searches = 0;
  reopened = 0;
  locate = (): undefined => undefined;
  async locateAll() {
    this.searches++;
    return { places: this.isAway ? [] : this.places, passedOver: [] };
  }
  async checkReachable() {
    if (this.isAway) throw new FailedError('store-unreachable', 'it is away');
  }
  openAgain(): void {
    this.reopened++;
  }
  async close() {}
}

function search() {
  const source = new Source();
  const clock = new ManualClock();
  return { source, clock, search: new ChunkSearch(source, { clock }) };
}

const taken = async (): Promise<boolean> => true;
const refused = async (): Promise<boolean> => false;

describe('a chunk that is not where it should be', () => {
  it('is found elsewhere', async () => {
    const { source, search: look } = search();
    source.places = [place];
    await look.anywhere(id, undefined, taken);
    expect(source.searches).toBe(1);
  });

  it('that is nowhere is looked for twice, and then not again for a minute', async () => {
    const { source, clock, search: look } = search();
    for (let round = 0; round < 3; round++) {
      await expect(look.anywhere(id, undefined, taken)).rejects.toMatchObject({ code: 'chunk-missing', exitStatus: 3 });
    }
    expect(source.searches).toBe(2);
    expect(() => look.checkKnown(id)).toThrow(DamageError);
    clock.advance(61_000);
    look.checkKnown(id);
    source.places = [place];
    await look.anywhere(id, undefined, taken);
  });

  it('that is wrong wherever it is, is damage after one search', async () => {
    const { source, search: look } = search();
    source.places = [place, place];
    await expect(look.anywhere(id, undefined, refused)).rejects.toMatchObject({
      code: 'chunk-damaged',
      object: 'pack',
    });
    expect(source.searches).toBe(1);
  });

  it('is no damage while the datastore is away, however many ask, and is had when it is back', async () => {
    const { source, search: look } = search();
    source.places = [place];
    source.isAway = true;
    const reason = new DamageError('container-gone', 'the file went away');
    const asked = await Promise.allSettled([1, 2, 3].map(() => look.anywhere(id, reason, taken)));
    for (const result of asked) expect(result).toMatchObject({ reason: { code: 'store-unreachable' } });
    expect(source.searches).toBe(0);
    expect(source.reopened).toBe(3);
    source.isAway = false;
    await look.anywhere(id, reason, taken);
  });

  it('in a container that cannot be read for another reason is a failure, not damage, and is not remembered', async () => {
    const { source, search: look } = search();
    source.places = [place];
    const take = async (): Promise<boolean> => {
      throw new FailedError('open-failed', 'cannot be opened: EMFILE');
    };
    await expect(look.anywhere(id, undefined, take)).rejects.toMatchObject({ code: 'open-failed', exitStatus: 1 });
    await look.anywhere(id, undefined, taken);
  });
});
