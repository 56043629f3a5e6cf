// SPDX-License-Identifier: MIT
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { MapBuilder } from '#vmar/src/archive/map-builder.js';
import { Scratch } from '#vmar/src/archive/scratch.js';
import { seededRandom } from '../base/random.js';
import { scratchDirectory } from '../base/scratch.js';

const ZERO = Buffer.alloc(32);
const base = scratchDirectory();

/** A page's "id" for these tests: its level, number and a sum over it, so that any difference shows. */
function pageId(level: number, index: number, page: Uint8Array): Uint8Array {
  const id = Buffer.alloc(32);
  let sum = 7;
  for (const byte of page) sum = (Math.imul(sum, 31) + byte) >>> 0;
  id.writeUInt32LE(sum, 0);
  id.writeUInt32LE(level, 4);
  id.writeUInt32LE(index + 1, 8);
  return id;
}

/** The root as the definition in SPEC.md §3 gives it, level by level over the whole list. */
function rootOf(ids: readonly Uint8Array[], fanout: number): Uint8Array {
  let level = ids;
  for (let number = 1; ; number++) {
    const pages: Uint8Array[] = [];
    for (let at = 0; at < level.length; at += fanout) {
      const page = Buffer.concat(level.slice(at, at + fanout));
      pages.push(page.every((byte) => byte === 0) ? ZERO : pageId(number, at / fanout, page));
    }
    if (pages.length === 1) return pages[0]!;
    level = pages;
  }
}

function builder(clusters: number, fanout: number) {
  const scratch = new Scratch(mkdtempSync(join(base, 'map-')));
  const pages = new Map<string, Uint8Array>();
  const map = new MapBuilder({
    clusters,
    fanout,
    scratch,
    scratchOffsetBytes: 0,
    disk: 'd',
    onPage: async (level, index, page) => {
      expect(pages.has(`${level}:${index}`)).toBe(false);
      pages.set(`${level}:${index}`, Buffer.from(page));
      return pageId(level, index, page);
    },
  });
  return { map, scratch, pages };
}

describe('MapBuilder', () => {
  it.each([1, 2, 3, 4, 5, 6, 7, 8])(
    'gives the root of the definition, in any order and by ranges (seed %i)',
    async (seed) => {
      const random = seededRandom(seed);
      const fanout = 16;
      const clusters = random.integer(1, 5000);
      const ids = Array.from({ length: clusters }, () => (random.oneIn(3) ? ZERO : Buffer.from(random.bytes(32))));
      for (let runs = 0; runs < 5; runs++) {
        const first = random.integer(0, clusters - 1);
        const end = Math.min(clusters, first + random.integer(1, 2000));
        for (let at = first; at < end; at++) ids[at] = ZERO;
      }
      const { map, scratch } = builder(clusters, fanout);
      const steps: (() => Promise<void>)[] = [];
      for (let at = 0; at < clusters; ) {
        let end = at;
        while (end < clusters && ids[end] === ZERO) end++;
        const first = at;
        const count = end - at;
        if (count > 1) steps.push(() => map.setRange(first, count, undefined));
        else steps.push(async () => map.set(first, ids[first] === ZERO ? undefined : ids[first]));
        at = Math.max(end, at + 1);
      }
      for (let i = steps.length - 1; i > 0; i--) {
        const j = random.integer(0, i);
        [steps[i], steps[j]] = [steps[j]!, steps[i]!];
      }
      for (const step of steps) {
        await step();
        if (random.oneIn(8)) await map.drain();
      }
      expect(Buffer.from(await map.finish()).toString('hex')).toBe(Buffer.from(rootOf(ids, fanout)).toString('hex'));
      scratch.close();
    },
  );

  it('spills pages when thousands are under way', async () => {
    const fanout = 16;
    const clusters = 16 * 9000;
    const { map, scratch } = builder(clusters, fanout);
    const id = (cluster: number) => {
      const bytes = Buffer.alloc(32, 1);
      bytes.writeUInt32LE(cluster, 0);
      return bytes;
    };
    for (let entry = 0; entry < fanout; entry++) {
      for (let page = 0; page < 9000; page++) map.set(page * fanout + entry, id(page * fanout + entry));
    }
    const ids = Array.from({ length: clusters }, (_, cluster) => id(cluster));
    expect(Buffer.from(await map.finish()).equals(rootOf(ids, fanout))).toBe(true);
    scratch.close();
  });

  it('takes a hole of a 64 TiB disk in one step', async () => {
    const clusters = 2 ** 30;
    const { map, pages } = builder(clusters, 128);
    await map.setRange(0, clusters - 1, undefined);
    map.set(clusters - 1, Buffer.alloc(32, 9));
    await map.finish();
    expect(pages.size).toBe(map.levels);
  });

  it('refuses a cluster twice, outside, or missing', async () => {
    const { map } = builder(100, 16);
    map.set(5, Buffer.alloc(32, 1));
    expect(() => map.set(5, Buffer.alloc(32, 2))).toThrow(/twice/);
    expect(() => map.set(100, Buffer.alloc(32, 2))).toThrow(/past the end/);
    await expect(map.setRange(0, 16, undefined)).rejects.toThrow(/twice/);
    await expect(map.finish()).rejects.toThrow(/incomplete/);
  });

  it('refuses a range over a page that was finished, and a cluster in a range that was set', async () => {
    const { map } = builder(1000, 16);
    await map.setRange(0, 256, undefined);
    expect(() => map.set(17, Buffer.alloc(32, 1))).toThrow(/twice/);
    await expect(map.setRange(0, 16, undefined)).rejects.toThrow(/twice/);
  });
});
