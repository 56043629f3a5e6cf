// SPDX-License-Identifier: MIT
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compress } from 'zstd-napi';
import { sealer } from '#vmar/formats/vmar/hash.js';
import { createExecutor, type Executor, type ExtractFrame } from '#vmar/src/pipeline/executor.js';
import { SlotPool } from '#vmar/src/pipeline/slots.js';
import { noise, text } from './bytes-fixture.js';
import { buildContainer, type Container, type PlacedFrame } from './container-fixture.js';

const CLUSTER = 64 << 10;
const SHORT = 5000;
const directory = mkdtempSync(join(tmpdir(), 'vmar-extract-'));
const fds: number[] = [];

afterAll(() => {
  for (const fd of fds) closeSync(fd);
  rmSync(directory, { recursive: true });
});

function open(path: string, flags: string | number): number {
  const fd = openSync(path, flags);
  fds.push(fd);
  return fd;
}

let files = 0;
function fileOf(bytes: Uint8Array): { path: string; fd: number } {
  const path = join(directory, `${files++}`);
  writeFileSync(path, bytes);
  return { path, fd: open(path, 'r+') };
}

/** O_DIRECT descriptor, or -1 where the temporary directory's file system has none. */
function openDirect(path: string): number {
  try {
    return open(path, constants.O_RDWR | constants.O_DIRECT);
  } catch (error) {
    console.warn(`${directory} has no O_DIRECT (${String(error)}): direct writing is not tested`);
    return -1;
  }
}

const clusters = [text(CLUSTER, 1), text(CLUSTER, 2), noise(CLUSTER, 3), text(CLUSTER, 4)];
const container: Container = buildContainer([
  { content: 1, frames: [{ chunks: clusters }, { chunks: [noise(CLUSTER, 5), noise(SHORT, 6)] }] },
  { content: 1, frames: [{ chunks: [text(SHORT, 7), text(CLUSTER, 8), text(CLUSTER, 9)] }] },
  { content: 2, frames: [{ chunks: [noise(4096, 10), noise(4096, 11)], kind: 1 }] },
]);
const frames = container.extents.flatMap((extent) => extent.frames);
const contents = container.tableChunks.map(({ frame, offsetBytes, lengthBytes }) =>
  frames[frame]!.bytes.subarray(offsetBytes, offsetBytes + lengthBytes),
);

/** A job's frame that wants chunks, by their number in the container, at places. */
function wanted(frame: number, places: readonly (readonly [chunk: number, targetOffset: number])[]): ExtractFrame {
  const { offsetBytes, storedBytes, rawBytes, codec, seal } = frames[frame]!;
  const chunks = places.map(([chunk, targetOffset]) => {
    const { id, kind, offsetBytes: offsetInFrame, lengthBytes } = container.tableChunks[chunk]!;
    return { id, kind, offsetInFrame, lengthBytes, targetOffset };
  });
  return { offsetBytes, storedBytes, rawBytes, codec, seal, chunks };
}

describe.each([0, 2])('extract with %i workers', (workers) => {
  const pool = new SlotPool({ count: 2, slotBytes: 4 * CLUSTER, clusterSizeBytes: CLUSTER });
  let executor: Executor;
  let fd: number;
  beforeAll(() => {
    executor = createExecutor({ workers, hash: 'blake3', level: 1, clusterSizeBytes: CLUSTER, pools: [pool] });
    fd = fileOf(container.bytes).fd;
  });
  afterAll(() => executor.close());

  const all = [
    wanted(0, [
      [0, 0],
      [1, CLUSTER],
      [2, 5 * CLUSTER],
      [3, 6 * CLUSTER],
    ]),
    wanted(1, [
      [4, 7 * CLUSTER],
      [5, 9 * CLUSTER],
    ]),
    wanted(2, [
      [6, 8 * CLUSTER + 17],
      [7, 2 * CLUSTER],
      [8, 3 * CLUSTER],
    ]),
    wanted(3, [
      [9, 4 * CLUSTER],
      [10, 4 * CLUSTER + 4096],
    ]),
  ];

  function expectedFile(): Buffer {
    const bytes = Buffer.alloc(9 * CLUSTER + SHORT);
    for (const { chunk, at } of all.flatMap(({ chunks }) =>
      chunks.map((chunk) => ({ chunk, at: chunk.targetOffset })),
    )) {
      const number = container.tableChunks.findIndex(({ id }) => Buffer.from(id).equals(chunk.id));
      bytes.set(contents[number]!, at);
    }
    return bytes;
  }

  it.each(['buffered', 'direct'])('puts every chunk at its place in a file, %s', async (way) => {
    const file = fileOf(Buffer.alloc(0));
    const directFd = way === 'direct' ? openDirect(file.path) : -1;
    const target = { kind: 'file', fd: file.fd, directFd, alignment: 4096 } as const;
    const report = await executor.extract({ fd, object: 'c', frames: all, target });
    const bytesWritten = contents.reduce((sum, bytes) => sum + bytes.length, 0);
    expect(report).toEqual({ damaged: [], bytesWritten, directRefused: false });
    expect(readFileSync(file.path).equals(expectedFile())).toBe(true);
  });

  it('writes with O_DIRECT what is aligned, and only that', async () => {
    const file = fileOf(Buffer.alloc(0));
    const directFd = openDirect(file.path);
    if (directFd === -1) return;
    const readOnly = open(file.path, 'r');
    const direct = { kind: 'file', fd: readOnly, directFd, alignment: 4096 } as const;
    // With a buffered descriptor that cannot be written, only direct writes succeed.
    await executor.extract({ fd, object: 'c', frames: [all[0]!], target: direct });
    const tail = { fd, object: 'c', frames: [all[1]!], target: { ...direct, object: 'the disk' } };
    await expect(executor.extract(tail)).rejects.toMatchObject({
      code: 'write-failed',
      object: 'the disk',
      exitStatus: 1,
    });
    // And the other way round, only unaligned ones.
    const buffered = { kind: 'file', fd: file.fd, directFd: readOnly, alignment: 4096 } as const;
    await executor.extract({ fd, object: 'c', frames: [wanted(2, [[6, 17]])], target: buffered });
    await expect(executor.extract({ fd, object: 'c', frames: [all[0]!], target: buffered })).rejects.toMatchObject({
      code: 'write-failed',
    });
  });

  it('goes on buffered where O_DIRECT is refused', async () => {
    const file = fileOf(Buffer.alloc(0));
    const directFd = openDirect(file.path);
    if (directFd === -1) return;
    // The target claims that it takes any offset: the kernel says EINVAL.
    const target = { kind: 'file', fd: file.fd, directFd, alignment: 1 } as const;
    for (const refused of [true, false]) {
      const report = await executor.extract({ fd, object: 'c', frames: [wanted(0, [[0, 3]])], target });
      expect(report).toEqual({ damaged: [], bytesWritten: CLUSTER, directRefused: refused });
      expect(readFileSync(file.path).subarray(3).equals(clusters[0]!)).toBe(true);
    }
  });

  it('puts chunks into a slot, one of them twice', async () => {
    const slot = await pool.acquire();
    slot.bytes.fill(0xee);
    const job = [
      wanted(0, [
        [3, CLUSTER],
        [3, 2 * CLUSTER],
      ]),
      wanted(1, [[5, 3 * CLUSTER + 1]]),
    ];
    const report = await executor.extract({ fd, object: 'c', frames: job, target: { kind: 'slot', slot } });
    expect(report).toMatchObject({ damaged: [], bytesWritten: 2 * CLUSTER + SHORT });
    const expected = Buffer.alloc(4 * CLUSTER, 0xee);
    expected.set(clusters[3]!, CLUSTER);
    expected.set(clusters[3]!, 2 * CLUSTER);
    expected.set(contents[5]!, 3 * CLUSTER + 1);
    expect(Buffer.from(slot.bytes).equals(expected)).toBe(true);
    slot.release();
  });

  it('rejects when a target is full, and goes on', async () => {
    const full = { kind: 'file', fd: open('/dev/full', 'r+'), directFd: -1, alignment: 1 } as const;
    const job = { fd, object: 'c', frames: all, target: full };
    await expect(executor.extract(job)).rejects.toMatchObject({ code: 'write-failed', message: /ENOSPC/ });
    const slot = await pool.acquire();
    await executor.extract({ fd, object: 'c', frames: [wanted(1, [[5, 0]])], target: { kind: 'slot', slot } });
    slot.release();
  });

  it('reports nothing wanted as nothing done', async () => {
    const slot = await pool.acquire();
    const job = { fd, object: 'c', frames: [], target: { kind: 'slot', slot } } as const;
    expect(await executor.extract(job)).toEqual({ damaged: [], bytesWritten: 0, directRefused: false });
    slot.release();
  });

  describe('damage', () => {
    const two = [
      [0, 0],
      [2, 3 * CLUSTER],
    ] as const;
    const whole = { chunk: undefined, targetOffset: 0, lengthBytes: 2 * CLUSTER };

    /** Extracts from a changed container with a sound frame before and behind the frame in question. */
    async function extractFrom(bytes: Uint8Array | number, frame: ExtractFrame) {
      const from = typeof bytes === 'number' ? bytes : fileOf(bytes).fd;
      const file = fileOf(Buffer.alloc(0));
      const target = { kind: 'file', fd: file.fd, directFd: -1, alignment: 4096 } as const;
      const report = await executor.extract({ fd: from, object: 'c', frames: [frame], target });
      return { ...report, file: readFileSync(file.path) };
    }

    it('of the stored bytes is a seal that does not match', async () => {
      const bytes = Buffer.from(container.bytes);
      bytes[frames[0]!.offsetBytes + 20]! ^= 1;
      const { damaged, bytesWritten } = await extractFrom(bytes, wanted(0, two));
      expect(damaged).toEqual([{ frame: 0, problem: 'seal', ...whole }]);
      expect(bytesWritten).toBe(0);
    });

    it('by a cut or an unreadable medium is a read error', async () => {
      const file = fileOf(container.bytes);
      truncateSync(file.path, frames[0]!.offsetBytes + 100);
      // Nothing is mapped at the start of a process: the kernel answers EIO.
      for (const from of [file.fd, open('/proc/self/mem', 'r')]) {
        const { damaged } = await extractFrom(from, {
          ...wanted(0, two),
          offsetBytes: from === file.fd ? frames[0]!.offsetBytes : 0,
        });
        expect(damaged).toEqual([{ frame: 0, problem: 'read-error', ...whole }]);
      }
    });

    it('is not a closed descriptor: that rejects', async () => {
      await expect(extractFrom(open('/dev/null', 'w'), wanted(0, two))).rejects.toMatchObject({ code: 'read-failed' });
    });

    it('of one chunk leaves the others', async () => {
      const frame = wanted(0, two);
      const wrong = { ...frame.chunks[0]!, id: noise(32) };
      const { damaged, file } = await extractFrom(container.bytes, { ...frame, chunks: [wrong, frame.chunks[1]!] });
      expect(damaged).toEqual([{ frame: 0, chunk: 0, problem: 'id', targetOffset: 0, lengthBytes: CLUSTER }]);
      expect(file.subarray(3 * CLUSTER).equals(clusters[2]!)).toBe(true);
      expect(file.subarray(0, 3 * CLUSTER).every((byte) => byte === 0)).toBe(true);
    });

    it('is a chunk that passes for another kind', async () => {
      const frame = wanted(0, two);
      const page = { ...frame.chunks[0]!, kind: 1 };
      const { damaged } = await extractFrom(container.bytes, { ...frame, chunks: [page] });
      expect(damaged).toMatchObject([{ problem: 'id', chunk: 0 }]);
    });

    it('is a chunk past its frame', async () => {
      const frame = wanted(0, two);
      const past = { ...frame.chunks[1]!, offsetInFrame: frame.rawBytes - 1 };
      const { damaged } = await extractFrom(container.bytes, { ...frame, chunks: [past] });
      expect(damaged).toMatchObject([{ problem: 'id', chunk: 0 }]);
    });

    /** A zstd header that claims a size, with one empty last block. */
    function claiming(size: bigint): Buffer {
      const frame = Buffer.from('28b52ffde00000000000000000010000', 'hex');
      frame.writeBigUInt64LE(size, 5);
      return frame;
    }
    const good = compress(clusters[0]!);
    const skippable = Buffer.from('502a4d1804000000aaaaaaaa', 'hex');
    const hostile: [string, Buffer, Partial<PlacedFrame>][] = [
      ['a frame that claims 10 GiB', claiming(10n << 30n), {}],
      ['a frame that claims 10 GiB and is said to hold them', claiming(10n << 30n), { rawBytes: 10 * 2 ** 30 }],
      ['a frame that is shorter than said', good, { rawBytes: CLUSTER + 1 }],
      ['a frame that is longer than said', good, { rawBytes: CLUSTER - 1 }],
      ['a truncated frame', good.subarray(0, good.length - 3), {}],
      ['trailing bytes', Buffer.concat([good, noise(5)]), {}],
      ['a second frame', Buffer.concat([good, compress(Buffer.alloc(0))]), {}],
      ['a skippable frame behind', Buffer.concat([good, skippable]), {}],
      ['a skippable frame before', Buffer.concat([skippable, good]), {}],
      ['no frame at all', noise(1000), {}],
      ['nothing', Buffer.alloc(0), {}],
      ['raw bytes of another length', noise(1000), { codec: 0 }],
      ['an unknown codec', good, { codec: 2 as 1 }],
      ['a stored length past the limit', good, { storedBytes: 2 ** 40 }],
    ];

    it.each(hostile)('is %s, though its seal is right', async (_, stored, facts) => {
      const { id, kind } = container.tableChunks[0]!;
      const chunks = [{ id, kind, offsetInFrame: 0, lengthBytes: CLUSTER, targetOffset: 9 }];
      const described = { offsetBytes: 0, storedBytes: stored.length, rawBytes: CLUSTER, codec: 1 as const, chunks };
      const frame = { ...described, seal: sealer('blake3')(stored), ...facts, chunks };
      const { damaged, bytesWritten } = await extractFrom(stored, frame);
      const expected = { frame: 0, chunk: undefined, problem: 'decompress', targetOffset: 9, lengthBytes: CLUSTER };
      expect(damaged).toEqual([expected]);
      expect(bytesWritten).toBe(0);
    });
  });
});
