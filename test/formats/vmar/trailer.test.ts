// SPDX-License-Identifier: MIT

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type HashName, sealer } from '#vmar/formats/vmar/hash.js';
import {
  CHUNKS_PER_PAGE,
  decodeFooter,
  decodeTableChunk,
  decodeTableFrame,
  encodeFooter,
  encodeTableChunk,
  encodeTableFrame,
  type Footer,
  FRAMES_PER_PAGE,
  openTablePage,
  sealTablePage,
  TABLE_CHUNK_BYTES,
  TABLE_FRAME_BYTES,
  type TableChunk,
  type TableFrame,
  tableBytes,
  tablePageOffset,
} from '#vmar/formats/vmar/trailer.js';
import { BugError, DamageError } from '#vmar/src/base/errors.js';
import { expectEveryDamageFound, refusalBy } from './damage.js';
import { golden } from './golden.js';
import {
  CONTAINER_ID,
  counting,
  encodeTrailer,
  FOOTER,
  footerOf,
  HASHES,
  TABLE_CHUNKS,
  TABLE_FRAMES,
} from './samples.js';

interface Trailer {
  readonly footer: Footer;
  readonly chunks: readonly TableChunk[];
  readonly frames: readonly TableFrame[];
}

/** Reads a whole trailer, as of a file whose extents end at `chunkTableOffset`, page by page. */
function readTrailer(trailer: Uint8Array, chunkTableOffset: number, hash: HashName): Trailer {
  const file = Buffer.concat([Buffer.alloc(chunkTableOffset), trailer]);
  const context = { object: '/packs/x.vmar', containerId: CONTAINER_ID, fileBytes: file.byteLength };
  const footer = decodeFooter(file.subarray(file.byteLength - 128), hash, context);
  const pages = function* (tableOffset: number, count: number, entryBytes: number, perPage: number) {
    for (let page = 0; page * perPage < count; page++) {
      const at = tablePageOffset(tableOffset, page, entryBytes, perPage);
      const length = Math.min(perPage, count - page * perPage) * entryBytes;
      const entries = openTablePage(file.subarray(at, at + length + 16), hash, CONTAINER_ID, at, context.object);
      for (let entry = 0; entry < length; entry += entryBytes) yield [entries, entry] as const;
    }
  };
  const chunks = [...pages(footer.chunkTableOffset, footer.chunkCount, TABLE_CHUNK_BYTES, CHUNKS_PER_PAGE)];
  const frames = [...pages(footer.frameTableOffset, footer.frameCount, TABLE_FRAME_BYTES, FRAMES_PER_PAGE)];
  return {
    footer: { ...footer, containerId: Uint8Array.from(footer.containerId) },
    chunks: chunks.map(([entries, at]) => {
      const chunk = decodeTableChunk(entries, at, context.object);
      return { ...chunk, id: Uint8Array.from(chunk.id) };
    }),
    frames: frames.map(([entries, at]) => {
      const frame = decodeTableFrame(entries, at, context.object);
      return { ...frame, seal: Uint8Array.from(frame.seal) };
    }),
  };
}

describe.each(HASHES)('%s: the trailer of a container', (hash) => {
  it('is as in the golden file, and every damage to it is found', () => {
    const bytes = golden(`trailer-${hash}`, encodeTrailer(TABLE_CHUNKS, TABLE_FRAMES, FOOTER, hash));
    const read = (trailer: Uint8Array) => readTrailer(trailer, FOOTER.chunkTableOffset, hash);
    expect(read(bytes)).toEqual({ footer: FOOTER, chunks: TABLE_CHUNKS, frames: TABLE_FRAMES });
    expectEveryDamageFound(bytes, read);
  });

  it('of a container without chunks holds a footer alone', () => {
    const footer = footerOf([], [], { chunkTableOffset: 256, manifestExtentOffset: 0, extentCount: 0 });
    const bytes = golden(`trailer-empty-${hash}`, encodeTrailer([], [], footer, hash));
    expect(bytes.byteLength).toBe(128);
    expect(readTrailer(bytes, 256, hash)).toEqual({ footer, chunks: [], frames: [] });
    expectEveryDamageFound(bytes, (damaged) => readTrailer(damaged, 256, hash));
  });

  it.each([1, 340, 341, 342, 682, 683, 1000])('of %i chunks and frames has full pages and a short one', (count) => {
    const chunks = Array.from({ length: count }, (_, index) => chunkNumber(index));
    const frames = Array.from({ length: count }, (_, index) => frameNumber(index));
    const chunkTableOffset = 2 ** 33;
    const footer = footerOf(chunks, frames, { chunkTableOffset, manifestExtentOffset: 0, extentCount: 1 });
    const bytes = encodeTrailer(chunks, frames, footer, hash);
    expect(bytes.byteLength).toBe(
      count * 88 + (Math.ceil(count / CHUNKS_PER_PAGE) + Math.ceil(count / FRAMES_PER_PAGE)) * 16 + 128,
    );
    const file = { chunks: bytes.subarray(0, -128), footer: bytes.subarray(-128) };
    const context = { object: 'x', fileBytes: footer.fileBytes };
    expect(decodeFooter(file.footer, hash, context)).toEqual({ ...footer, containerId: Buffer.from(CONTAINER_ID) });
    const last = count - 1;
    const page = Math.floor(last / CHUNKS_PER_PAGE);
    const at = tablePageOffset(chunkTableOffset, page, TABLE_CHUNK_BYTES, CHUNKS_PER_PAGE);
    const inFile = bytes.subarray(at - chunkTableOffset, footer.frameTableOffset - chunkTableOffset);
    const entries = openTablePage(inFile, hash, CONTAINER_ID, at, 'x');
    expect(entries.byteLength).toBe((count - page * CHUNKS_PER_PAGE) * TABLE_CHUNK_BYTES);
    const chunk = decodeTableChunk(entries, entries.byteLength - TABLE_CHUNK_BYTES);
    expect({ ...chunk, id: Uint8Array.from(chunk.id) }).toEqual(chunks[last]);
  });

  it('has pages that pass in their own place and container alone', () => {
    const entries = counting(0, 96);
    const page = Buffer.concat([entries, sealTablePage(hash, CONTAINER_ID, 4096, entries)]);
    expect(openTablePage(page, hash, CONTAINER_ID, 4096, 'x')).toEqual(Buffer.from(entries));
    const other = refusalBy(() => openTablePage(page, hash, CONTAINER_ID, 4097, 'x'));
    expect(other).toMatchObject({ code: 'table-damaged', object: 'x', offsetBytes: 4097 });
    expect(refusalBy(() => openTablePage(page, hash, counting(0, 16), 4096, 'x'))).toBeInstanceOf(DamageError);
    expect(refusalBy(() => openTablePage(page.subarray(1), hash, CONTAINER_ID, 4096, 'x'))).toBeInstanceOf(DamageError);
    expect(refusalBy(() => openTablePage(page.subarray(0, 9), hash, CONTAINER_ID, 4096, 'x'))).toBeInstanceOf(
      DamageError,
    );
  });
});

describe('entries of tables', () => {
  const bytes16 = fc.uint8Array({ minLength: 16, maxLength: 16 });

  it('of chunks come back, and overwrite whatever was there', () => {
    const chunks = fc
      .record({
        id: fc.uint8Array({ minLength: 32, maxLength: 32 }),
        frame: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
        offsetBytes: fc.nat((4 << 20) - 1),
        lengthBytes: fc.integer({ min: 1, max: 4 << 20 }),
        kind: fc.nat(7),
      })
      .map((chunk) => ({ ...chunk, lengthBytes: Math.min(chunk.lengthBytes, (4 << 20) - chunk.offsetBytes) }));
    fc.assert(
      fc.property(chunks, fc.nat(100), (chunk, at) => {
        const into = new Uint8Array(200).fill(0xee);
        encodeTableChunk(chunk, into, at);
        const { id, ...rest } = decodeTableChunk(into, at);
        expect({ ...rest, id: Uint8Array.from(id) }).toEqual(chunk);
        expect(into.subarray(0, at).every((byte) => byte === 0xee)).toBe(true);
        expect(into.subarray(at + 48).every((byte) => byte === 0xee)).toBe(true);
      }),
    );
  });

  it('of frames come back, and overwrite whatever was there', () => {
    const frames = fc
      .record({
        offsetBytes: fc.maxSafeNat(),
        rawBytes: fc.integer({ min: 1, max: 4 << 20 }),
        saved: fc.nat(1 << 20),
        seal: bytes16,
      })
      .map(({ saved, ...frame }): TableFrame => {
        const storedBytes = Math.max(1, frame.rawBytes - saved);
        return { ...frame, storedBytes, chunkCount: 2, codec: storedBytes < frame.rawBytes ? 1 : 0 };
      });
    fc.assert(
      fc.property(frames, fc.nat(100), (frame, at) => {
        const into = new Uint8Array(200).fill(0xee);
        encodeTableFrame(frame, into, at);
        const { seal, ...rest } = decodeTableFrame(into, at);
        expect({ ...rest, seal: Uint8Array.from(seal) }).toEqual(frame);
        expect(into.subarray(0, at).every((byte) => byte === 0xee)).toBe(true);
        expect(into.subarray(at + 40).every((byte) => byte === 0xee)).toBe(true);
      }),
    );
  });

  it.each<[string, (bytes: Buffer) => void]>([
    ['no bytes', (bytes) => bytes.writeUInt32LE(0, 40)],
    ['a place past 4 MiB', (bytes) => bytes.writeUInt32LE(4 << 20, 36)],
    ['2^32 − 1 bytes', (bytes) => bytes.writeUInt32LE(0xffffffff, 40)],
    ['kind 8', (bytes) => bytes.writeUInt8(8, 44)],
    ['a zero byte that is none', (bytes) => bytes.writeUInt8(1, 45)],
    ['another one', (bytes) => bytes.writeUInt8(1, 47)],
  ])('that name a chunk with %s are damage', (_, change) => {
    const bytes = Buffer.alloc(48);
    encodeTableChunk(chunkNumber(0), bytes, 0);
    change(bytes);
    const error = refusalBy(() => decodeTableChunk(bytes, 0, 'x'));
    expect(error).toBeInstanceOf(DamageError);
    expect(error).toMatchObject({ code: 'table-damaged', object: 'x' });
  });

  it.each<[string, (bytes: Buffer) => void]>([
    ['a place past 2^53', (bytes) => bytes.writeUInt32LE(1 << 21, 4)],
    ['no stored bytes', (bytes) => bytes.writeUInt32LE(0, 8)],
    ['no raw bytes', (bytes) => bytes.writeUInt32LE(0, 12)],
    ['as many stored bytes as raw', (bytes) => bytes.writeUInt32LE(66536, 8)],
    ['5 MiB of two chunks', (bytes) => bytes.writeUInt32LE(5 << 20, 12)],
    ['no chunks', (bytes) => bytes.writeUInt32LE(0, 16)],
    ['65537 chunks', (bytes) => bytes.writeUInt32LE(65537, 16)],
    ['codec 2', (bytes) => bytes.writeUInt8(2, 20)],
    ['codec 0, but fewer stored bytes', (bytes) => bytes.writeUInt8(0, 20)],
    ['a zero byte that is none', (bytes) => bytes.writeUInt8(1, 23)],
  ])('that name a frame with %s are damage', (_, change) => {
    const bytes = Buffer.alloc(40);
    encodeTableFrame(TABLE_FRAMES[0]!, bytes, 0);
    change(bytes);
    expect(refusalBy(() => decodeTableFrame(bytes, 0, 'x'))).toBeInstanceOf(DamageError);
  });

  it('of a manifest may be long', () => {
    const bytes = Buffer.alloc(40);
    encodeTableFrame({ ...TABLE_FRAMES[0]!, chunkCount: 1, rawBytes: (16 << 20) + 72 }, bytes, 0);
    expect(decodeTableFrame(bytes, 0).rawBytes).toBe((16 << 20) + 72);
    bytes.writeUInt32LE((16 << 20) + 73, 12);
    expect(refusalBy(() => decodeTableFrame(bytes, 0))).toBeInstanceOf(DamageError);
  });

  it('are written only in their length', () => {
    const into = new Uint8Array(48);
    expect(() => encodeTableChunk({ ...chunkNumber(0), id: counting(0, 31) }, into, 0)).toThrow(BugError);
    expect(() => encodeTableFrame({ ...frameNumber(0), seal: counting(0, 32) }, into, 0)).toThrow(BugError);
  });
});

describe('the footer', () => {
  it.each(HASHES)('%s: is as in the golden file, and every damage to it is found', (hash) => {
    const bytes = golden(`footer-${hash}`, encodeFooter(FOOTER, hash));
    const context = { object: 'x', fileBytes: FOOTER.fileBytes };
    expect(decodeFooter(bytes, hash, context)).toEqual({ ...FOOTER, containerId: Buffer.from(CONTAINER_ID) });
    expectEveryDamageFound(bytes, (damaged) => decodeFooter(damaged, hash, context));
  });

  it('of another container, or of a file of another length, never passes', () => {
    const bytes = encodeFooter(FOOTER, 'blake3');
    const context = { object: 'x', containerId: CONTAINER_ID, fileBytes: FOOTER.fileBytes };
    decodeFooter(bytes, 'blake3', context);
    const foreign = { ...context, containerId: counting(0, 16) };
    expect(refusalBy(() => decodeFooter(bytes, 'blake3', foreign))).toBeInstanceOf(DamageError);
    for (const fileBytes of [FOOTER.fileBytes - 1, FOOTER.fileBytes + 1, 0]) {
      const error = refusalBy(() => decodeFooter(bytes, 'blake3', { ...context, fileBytes }));
      expect(error).toBeInstanceOf(DamageError);
      expect(error.code).toBe('footer-damaged');
    }
  });

  const numbers: readonly (readonly [string, number])[] = [
    ['chunks', 24],
    ['frames', 32],
    ['the chunk table', 40],
    ['the frame table', 48],
    ['the length of the file', 56],
    ['the manifest', 64],
    ['raw bytes', 80],
  ];

  it.each(numbers)('with a number for %s that nothing else bears out is damage, whatever its seal says', (_, at) => {
    const right = Buffer.from(encodeFooter(FOOTER, 'blake3')).readBigUInt64LE(at);
    for (const wrong of [right + 1n, right - 1n, 1n, 2n ** 32n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 60n, 2n ** 64n - 1n]) {
      const bytes = Buffer.from(encodeFooter(FOOTER, 'blake3'));
      bytes.writeBigUInt64LE(wrong, at);
      bytes.set(sealer('blake3')(bytes.subarray(0, 112)), 112);
      // These may be one more or less without a contradiction.
      const free = (at === 80 || at === 64) && (wrong === right + 1n || wrong === right - 1n);
      const decode = () => decodeFooter(bytes, 'blake3', { object: 'x', fileBytes: FOOTER.fileBytes });
      if (free) decode();
      else expect(refusalBy(decode), `${wrong}`).toBeInstanceOf(DamageError);
    }
  });

  it.each([0, 4, 0xffffffff])('of %i extents where there are 3 is damage', (count) => {
    const bytes = Buffer.from(encodeFooter(FOOTER, 'blake3'));
    bytes.writeUInt32LE(count, 72);
    bytes.set(sealer('blake3')(bytes.subarray(0, 112)), 112);
    const context = { object: 'x', fileBytes: FOOTER.fileBytes };
    expect(refusalBy(() => decodeFooter(bytes, 'blake3', context))).toBeInstanceOf(DamageError);
  });

  it.each([76, 79, 88, 111])('with a zero byte at %i that is none is damage', (at) => {
    const bytes = Buffer.from(encodeFooter(FOOTER, 'blake3'));
    bytes[at] = 1;
    bytes.set(sealer('blake3')(bytes.subarray(0, 112)), 112);
    const context = { object: 'x', fileBytes: FOOTER.fileBytes };
    expect(refusalBy(() => decodeFooter(bytes, 'blake3', context))).toBeInstanceOf(DamageError);
  });

  it('is written only as it is read', () => {
    for (const wrong of [{ fileBytes: 5 }, { frameTableOffset: 0 }, { chunkCount: 1e9 }, { rawBytes: Number.NaN }]) {
      expect(() => encodeFooter({ ...FOOTER, ...wrong }, 'blake3')).toThrow(BugError);
    }
  });

  it('knows how long tables are', () => {
    expect(tableBytes(0, TABLE_CHUNK_BYTES, CHUNKS_PER_PAGE)).toBe(0);
    expect(tableBytes(341, TABLE_CHUNK_BYTES, CHUNKS_PER_PAGE)).toBe(16384);
    expect(tableBytes(342, TABLE_CHUNK_BYTES, CHUNKS_PER_PAGE)).toBe(16384 + 64);
    expect(tableBytes(409, TABLE_FRAME_BYTES, FRAMES_PER_PAGE)).toBe(16376);
    expect(tablePageOffset(1000, 2, TABLE_FRAME_BYTES, FRAMES_PER_PAGE)).toBe(1000 + 2 * 16376);
  });
});

function chunkNumber(index: number): TableChunk {
  const id = counting(index, 32);
  new DataView(id.buffer).setUint32(0, index);
  return { id, frame: index, offsetBytes: 0, lengthBytes: 1000, kind: index % 8 };
}

function frameNumber(index: number): TableFrame {
  const seal = counting(index, 16);
  return { offsetBytes: 2 ** 32 + index * 2000, storedBytes: 1000, rawBytes: 1001, chunkCount: 1, codec: 1, seal };
}
