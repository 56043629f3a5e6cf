// SPDX-License-Identifier: MIT
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createExecutor, type Executor, type VerifyJob, type VerifyReport } from '#vmar/src/pipeline/executor.js';
import { TableSum } from '#vmar/src/pipeline/table-sum.js';
import { noise, text } from './bytes-fixture.js';
import { buildContainer, type Container, chunkId, type ExtentOfFrames, envelope } from './container-fixture.js';

const directory = mkdtempSync(join(tmpdir(), 'vmar-verify-'));
const path = join(directory, 'container');
const fd = openSync(path, 'w+');
afterAll(() => {
  closeSync(fd);
  rmSync(directory, { recursive: true });
});

const executors = new Map<number, Executor>();
afterAll(async () => {
  for (const executor of executors.values()) await executor.close();
});

function executorOf(workers: number): Executor {
  let executor = executors.get(workers);
  if (executor === undefined) {
    executor = createExecutor({ workers, hash: 'blake3', level: 1, clusterSizeBytes: 65536, pools: [] });
    executors.set(workers, executor);
  }
  return executor;
}

function verify(
  container: Container,
  bytes: Buffer,
  facts: Partial<VerifyJob> = {},
  workers = 0,
): Promise<VerifyReport> {
  writeSync(fd, bytes, 0, bytes.length, 0);
  const { hash, containerId, from } = container;
  const places = { from, to: container.bytes.length, firstSequence: 0, firstFrame: 0 };
  return executorOf(workers).verifyExtents({ fd, object: path, hash, containerId, mode: 'full', ...places, ...facts });
}

function sumOf(container: Container): Uint8Array {
  const sum = new TableSum(container.hash);
  for (const chunk of container.tableChunks.toReversed()) sum.addChunk(chunk);
  return sum.bytes();
}

/** One of each content, a frame that compresses and one that does not; small, so that every byte can be flipped. */
function smallExtents(hash: 'blake3' | 'sha256'): ExtentOfFrames[] {
  return [
    { content: 4, frames: [{ chunks: [envelope(hash, 90)], kind: 255 }] },
    { content: 1, frames: [{ chunks: [text(200, 1), text(150, 2)] }, { chunks: [noise(60, 3), noise(40, 4)] }] },
    {
      content: 2,
      frames: [
        { chunks: [noise(64, 5)], kind: 1 },
        { chunks: [noise(32, 6)], kind: 7 },
      ],
    },
    { content: 1, frames: [{ chunks: [text(300, 7)] }] },
    { content: 3, frames: [{ chunks: [envelope(hash, 120)], kind: 255 }] },
  ];
}

describe.each(['blake3', 'sha256'] as const)('verifyExtents, %s', (hash) => {
  const container = buildContainer(smallExtents(hash), hash);
  const sound = {
    extents: 5,
    frames: 7,
    chunks: 7,
    rawBytes: 200 + 150 + 60 + 40 + 64 + 32 + 300,
    storedBytes: container.extents.flatMap(({ frames }) => frames).reduce((sum, frame) => sum + frame.storedBytes, 0),
    damage: [],
    tableSumKnown: true,
    nextOffset: container.bytes.length,
    nextSequence: 5,
    nextFrame: 7,
  };

  it.each([0, 1])('counts a sound container, %i workers', async (workers) => {
    const implementations = ['native', 'reference'] as const;
    for (const mode of ['full', 'quick'] as const) {
      for (const implementation of implementations) {
        const report = await verify(container, container.bytes, { mode, implementation }, workers);
        expect(report).toMatchObject(sound);
        expect(Buffer.from(report.tableSum)).toEqual(Buffer.from(sumOf(container)));
      }
    }
  });

  it('walks in steps', async () => {
    const sum = new TableSum(hash);
    let at = { from: container.from, firstSequence: 0, firstFrame: 0 };
    let steps = 0;
    for (; at.from < container.bytes.length; steps++) {
      const report = await verify(container, container.bytes, { ...at, stopAfterBytes: 400 });
      expect(report.damage).toEqual([]);
      sum.addSum(report.tableSum);
      at = { from: report.nextOffset, firstSequence: report.nextSequence, firstFrame: report.nextFrame };
    }
    expect(steps).toBeGreaterThan(2);
    expect(Buffer.from(sum.bytes())).toEqual(Buffer.from(sumOf(container)));
  });

  it('reports a flip of any byte once, at its place, with the chunks lost', async () => {
    const bytes = Buffer.from(container.bytes);
    for (const extent of container.extents) {
      for (let at = extent.offsetBytes; at < extent.offsetBytes + extent.totalBytes; at++) {
        bytes[at]! ^= 1 << (at % 8);
        const { damage } = await verify(container, bytes);
        bytes[at]! ^= 1 << (at % 8);
        const frame = extent.frames.find((one) => at >= one.offsetBytes && at < one.offsetBytes + one.storedBytes);
        if (frame === undefined) {
          const { offsetBytes, totalBytes } = extent;
          expect(damage).toMatchObject([{ kind: 'extent', offsetBytes, lengthBytes: totalBytes }]);
          expect(damage[0]!.ids.length).toBe(0);
        } else {
          const { offsetBytes, storedBytes } = frame;
          expect(damage).toMatchObject([{ kind: 'frame', offsetBytes, lengthBytes: storedBytes }]);
          expect(Buffer.from(damage[0]!.ids)).toEqual(Buffer.concat(frame.ids));
        }
      }
    }
  });

  it('quickly finds a flip in heads, and does not look at frames', async () => {
    const bytes = Buffer.from(container.bytes);
    const { offsetBytes, headBytes } = container.extents[2]!;
    bytes[offsetBytes + headBytes]! ^= 1;
    expect((await verify(container, bytes, { mode: 'quick' })).damage).toEqual([]);
    bytes[offsetBytes + headBytes - 1]! ^= 1;
    const { damage, tableSumKnown } = await verify(container, bytes, { mode: 'quick' });
    expect(damage).toMatchObject([{ kind: 'extent', offsetBytes }]);
    expect(tableSumKnown).toBe(false);
  });
});

describe('verifyExtents', () => {
  const container = buildContainer(smallExtents('blake3'));

  it('finds content that does not match its id, though every seal is right', async () => {
    const pageId = chunkId('blake3', 1, text(50));
    for (const implementation of ['native', 'reference'] as const) {
      const forged = buildContainer([
        {
          content: 1,
          frames: [{ chunks: [text(100), text(50), text(60)], ids: [noise(32, 1), pageId, noise(32, 3)] }],
        },
        { content: 2, frames: [{ chunks: [text(50)], kind: 1, ids: [pageId] }] },
        { content: 2, frames: [{ chunks: [text(50)], kind: 2, ids: [pageId] }] },
        { content: 3, frames: [{ chunks: [noise(100)], kind: 255 }] },
        { content: 4, frames: [{ chunks: [noise(20)], kind: 255, ids: [noise(32)] }] },
      ]);
      const { damage } = await verify(forged, forged.bytes, { implementation });
      const lost = [0, 2, 3, 4].map((extent) => forged.extents[extent]!.frames[0]!);
      expect(damage).toMatchObject(lost.map(({ offsetBytes }) => ({ kind: 'chunk', offsetBytes })));
      for (const [index, { ids }] of damage.entries())
        expect(Buffer.from(ids)).toEqual(Buffer.concat(lost[index]!.ids));
    }
  });

  it('reports neighbouring damaged extents as one stretch, and goes on behind it', async () => {
    const bytes = Buffer.from(container.bytes);
    const [, second, third, fourth, fifth] = container.extents;
    bytes[second!.offsetBytes]! ^= 1;
    bytes[third!.offsetBytes + 90]! ^= 1;
    bytes[fifth!.frames[0]!.offsetBytes]! ^= 1;
    const { damage, extents } = await verify(container, bytes);
    const lengthBytes = fourth!.offsetBytes - second!.offsetBytes;
    expect(damage).toMatchObject([
      { kind: 'extent', offsetBytes: second!.offsetBytes, lengthBytes },
      { kind: 'frame' },
    ]);
    expect(extents).toBe(3);
  });

  it('reports a container of nothing but zeros or noise as one stretch', async () => {
    const size = 3 << 20;
    for (const bytes of [Buffer.alloc(size), noise(size)]) {
      const { damage } = await verify(container, bytes, { from: 0, to: size });
      expect(damage).toMatchObject([{ kind: 'extent', offsetBytes: 0, lengthBytes: size }]);
    }
  });

  it('does not take an extent of another container or of another place for one of this', async () => {
    const bytes = Buffer.from(container.bytes);
    const [, second, third, fourth] = container.extents;
    const foreign = Buffer.concat([bytes.subarray(0, third!.offsetBytes), bytes.subarray(fourth!.offsetBytes)]);
    const { damage } = await verify(container, foreign, { to: foreign.length });
    expect(damage).toMatchObject([{ kind: 'extent', offsetBytes: third!.offsetBytes }]);
    const other = { ...container, containerId: noise(16, 1) };
    const all = await verify(other, bytes);
    expect(all.damage).toMatchObject([{ offsetBytes: 256, lengthBytes: bytes.length - 256 }]);
    const late = { from: second!.offsetBytes, firstSequence: 0 };
    expect((await verify(container, bytes, late)).damage).toMatchObject([
      { problem: expect.stringMatching(/sequence/) },
    ]);
  });

  it('reports extents that are cut, by the end of extents or of the file', async () => {
    const last = container.extents.at(-1)!;
    const frameAt = last.frames[0]!.offsetBytes;
    const end = container.bytes.length;
    for (const missing of [1, last.totalBytes - 96, last.totalBytes - 95, last.totalBytes - 1]) {
      const { damage } = await verify(container, container.bytes, { to: end - missing });
      const lengthBytes = last.totalBytes - missing;
      expect(damage).toMatchObject([{ kind: 'extent', offsetBytes: last.offsetBytes, lengthBytes }]);
    }
    ftruncateSync(fd, 0);
    const cutFrame = await verify(container, container.bytes.subarray(0, end - 1), { to: end });
    expect(cutFrame.damage).toMatchObject([{ kind: 'read-error', offsetBytes: frameAt }]);
    ftruncateSync(fd, 0);
    const cutHead = await verify(container, container.bytes.subarray(0, last.offsetBytes + 50), { to: end });
    expect(cutHead.damage).toMatchObject([{ kind: 'read-error', offsetBytes: last.offsetBytes }]);
  });

  it.each([0, 1])('takes EIO as damage and anything else as an error, %i workers', async (workers) => {
    const { hash, containerId } = container;
    const job = {
      object: path,
      hash,
      containerId,
      from: 0,
      to: 20000,
      firstSequence: 0,
      firstFrame: 0,
      mode: 'full',
    } as const;
    const memory = openSync('/proc/self/mem', 'r');
    const { damage } = await executorOf(workers).verifyExtents({ ...job, fd: memory });
    closeSync(memory);
    expect(damage).toMatchObject([{ kind: 'read-error', offsetBytes: 0, lengthBytes: 20000 }]);
    const folder = openSync(directory, 'r');
    const call = executorOf(workers).verifyExtents({ ...job, fd: folder });
    await expect(call).rejects.toMatchObject({ code: 'read-failed', object: path, exitStatus: 1 });
    closeSync(folder);
  });

  it('finds the next extent wherever its header lies to the blocks of the search', async () => {
    for (const slack of [-97, -96, -95, -50, -1, 0, 1]) {
      // The second extent starts so far behind the byte at which the search for it starts.
      const head = 96 + 48 + 32;
      const length = (1 << 20) + 1 + slack - head;
      const long = buildContainer([
        { content: 1, frames: [{ chunks: [noise(length)], raw: true }] },
        { content: 1, frames: [{ chunks: [text(100)] }] },
      ]);
      const bytes = Buffer.from(long.bytes);
      bytes[long.from]! ^= 1;
      const { damage, extents } = await verify(long, bytes);
      expect(damage).toMatchObject([{ kind: 'extent', lengthBytes: length + head }]);
      expect(extents).toBe(1);
    }
  });

  it('verifies frames of 4 MiB and an extent of several windows', async () => {
    const big = Array.from({ length: 3 }, (_, seed) => ({ chunks: [noise(4 << 20, seed + 1)], raw: true }));
    const long = buildContainer([
      { content: 1, frames: big },
      { content: 1, frames: [{ chunks: [text(4 << 20)] }] },
    ]);
    for (const workers of [0, 1]) {
      expect((await verify(long, long.bytes, {}, workers)).damage).toEqual([]);
      const bytes = Buffer.from(long.bytes);
      bytes[long.extents[0]!.frames[1]!.offsetBytes + 5]! ^= 1;
      expect((await verify(long, bytes, {}, workers)).damage).toMatchObject([{ kind: 'frame', lengthBytes: 4 << 20 }]);
    }
  });
});
