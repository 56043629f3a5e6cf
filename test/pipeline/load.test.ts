// SPDX-License-Identifier: MIT
// A frame is loaded as it was stored; of a damaged one whatever still matches its id is good, and nothing else.

import { closeSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createExecutor, type Executor, type LoadChunk } from '#vmar/src/pipeline/executor.js';
import { scratchDirectory } from '../base/scratch.js';
import { noise, text } from './bytes-fixture.js';
import { buildContainer, type PlacedFrame } from './container-fixture.js';

const CHUNK = 64 << 10;
const base = scratchDirectory();
const parts = [0, 1, 2, 3].map((seed) => Buffer.concat([text(CHUNK / 2), noise(CHUNK / 2, seed)]));
const NOISY = [0, 1, 2, 3].map((seed) => noise(CHUNK, seed));

describe.each([
  [0, 'blake3'],
  [2, 'blake3'],
  [2, 'sha256'],
] as const)('an executor with %i threads, %s', (workers, hash) => {
  let executor: Executor;
  beforeAll(() => {
    executor = createExecutor({ workers, hash, level: 1, clusterSizeBytes: CHUNK, pools: [] });
  });
  afterAll(() => executor.close());

  const container = buildContainer([{ content: 1, frames: [{ chunks: parts }, { chunks: NOISY, raw: true }] }], hash);
  const [packed, raw] = container.extents[0]!.frames as [PlacedFrame, PlacedFrame];

  async function loadFrom(bytes: Uint8Array, frame: PlacedFrame) {
    const object = join(base, 'container');
    writeFileSync(object, bytes);
    const fd = openSync(object, 'r');
    const memory = new SharedArrayBuffer(frame.rawBytes + 100);
    const chunks: LoadChunk[] = frame.ids.map((id, index) => {
      return { offsetInFrame: index * CHUNK, lengthBytes: CHUNK, id, kind: 0 };
    });
    try {
      const report = await executor.load({ fd, object, frame, chunks, memory });
      return { problem: report.problem, good: [...report.good], bytes: Buffer.from(memory, 0, frame.rawBytes) };
    } finally {
      closeSync(fd);
    }
  }

  function damagedAt(offset: number): Buffer {
    const copy = Buffer.from(container.bytes);
    copy[offset]! ^= 0x10;
    return copy;
  }

  it('loads frames, stored as they are or compressed', async () => {
    expect(packed.codec).toBe(1);
    expect(raw.codec).toBe(0);
    for (const frame of [packed, raw]) {
      const { problem, good, bytes } = await loadFrom(container.bytes, frame);
      expect(problem).toBeUndefined();
      expect(good).toEqual([1, 1, 1, 1]);
      expect(bytes.equals(frame.bytes)).toBe(true);
    }
  });

  it('loses one chunk of a raw frame to one flipped bit', async () => {
    const { problem, good } = await loadFrom(damagedAt(raw.offsetBytes + 2 * CHUNK + 5), raw);
    expect(problem).toBe('seal');
    expect(good).toEqual([1, 1, 0, 1]);
  });

  it('never calls a chunk of a damaged compressed frame good that is not', async () => {
    let rescued = 0;
    for (let at = 0; at < packed.storedBytes; at += 4999) {
      const { problem, good, bytes } = await loadFrom(damagedAt(packed.offsetBytes + at), packed);
      expect(problem).toBe('seal');
      for (const [index, isGood] of good.entries()) {
        const chunk = bytes.subarray(index * CHUNK, (index + 1) * CHUNK);
        expect(chunk.equals(parts[index]!)).toBe(isGood === 1);
        rescued += isGood;
      }
    }
    expect(rescued).toBeGreaterThan(0);
  });

  it('gives what lies before the end of a file that was cut', async () => {
    const { problem, good } = await loadFrom(container.bytes.subarray(0, raw.offsetBytes + 3 * CHUNK - 1), raw);
    expect(problem).toBe('read-error');
    expect(good).toEqual([1, 1, 0, 0]);
  });

  it('refuses a frame that claims more than its memory, and survives any codec', async () => {
    const large = { ...packed, rawBytes: packed.rawBytes + 4096 };
    expect((await loadFrom(container.bytes, large)).problem).toBeDefined();
    expect((await loadFrom(container.bytes, { ...packed, codec: 0 })).good).toEqual([0, 0, 0, 0]);
    expect((await loadFrom(container.bytes, { ...packed, storedBytes: 2 ** 31 })).problem).toBe('decompress');
  });
});
