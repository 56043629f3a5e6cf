// SPDX-License-Identifier: MIT

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type ChunkEntry,
  decodeExtentHead,
  decodeExtentHeader,
  type Extent,
  type ExtentContext,
  encodeExtentHead,
  type FrameEntry,
} from '#vmar/formats/vmar/extent.js';
import { type HashName, sealer } from '#vmar/formats/vmar/hash.js';
import { BugError, DamageError } from '#vmar/src/base/errors.js';
import { expectEveryDamageFound, refusalBy, thrownBy } from './damage.js';
import { golden } from './golden.js';
import { CONTAINER_ID, counting, dataExtentSample, HASHES, manifestExtentSample, mapExtentSample } from './samples.js';

function contextOf(extent: Extent): ExtentContext {
  const { containerId, offsetBytes, sequence } = extent;
  return { object: '/packs/x.vmar', containerId, offsetBytes, sequence };
}

/** Plain arrays in place of views. */
function plain(extent: Extent): Extent {
  const chunks = extent.chunks.map((chunk) => ({ ...chunk, id: Uint8Array.from(chunk.id) }));
  const frames = extent.frames.map((frame) => ({ ...frame, seal: Uint8Array.from(frame.seal) }));
  return { ...extent, containerId: Uint8Array.from(extent.containerId), chunks, frames };
}

/** An extent with bytes changed and sealed anew, as only a wrong writer would. */
function resealed(extent: Extent, change: (bytes: Buffer) => void): Uint8Array {
  const bytes = Buffer.from(encodeExtentHead(extent, 'blake3'));
  change(bytes);
  bytes.set(sealer('blake3')(bytes.subarray(0, 80), bytes.subarray(96)), 80);
  return bytes;
}

const SAMPLES: readonly (readonly [string, Extent])[] = [
  ['data', dataExtentSample()],
  ['maps', mapExtentSample()],
  ['manifest', manifestExtentSample(3)],
  ['prologue', manifestExtentSample(4)],
];

describe.each(HASHES)('%s: the head of an extent', (hash) => {
  it.each(SAMPLES)('of %s is as in the golden file, and every damage to it is found', (name, extent) => {
    const bytes = golden(`extent-${name}-${hash}`, encodeExtentHead(extent, hash));
    expect(plain(decodeExtentHead(bytes, hash, contextOf(extent)))).toEqual(extent);
    expectEveryDamageFound(bytes, (damaged) => decodeExtentHead(damaged, hash, contextOf(extent)));
    const { sequence: _, ...anySequence } = contextOf(extent);
    expectEveryDamageFound(bytes, (damaged) => decodeExtentHead(damaged, hash, anySequence));
  });

  it('comes back, whatever it holds', () => {
    fc.assert(
      fc.property(extents(), (extent) => {
        const bytes = encodeExtentHead(extent, hash);
        const context = contextOf(extent);
        expect(plain(decodeExtentHead(bytes, hash, context))).toEqual(extent);
        const framesBytes = extent.frames.reduce((sum, frame) => sum + frame.storedBytes, 0);
        expect(decodeExtentHeader(bytes.subarray(0, 96), context)).toEqual({
          content: extent.content,
          sequence: extent.sequence,
          chunkCount: extent.chunks.length,
          frameCount: extent.frames.length,
          framesBytes,
          headBytes: bytes.byteLength,
          totalBytes: bytes.byteLength + framesBytes,
        });
      }),
    );
  });
});

describe('the header of an extent', () => {
  const extent = dataExtentSample();
  const bytes = encodeExtentHead(extent, 'blake3');
  const context = contextOf(extent);

  it('with any one bit flipped is another header or a DamageError, nothing else', () => {
    for (let bit = 0; bit < 96 * 8; bit++) {
      const flipped = Uint8Array.from(bytes.subarray(0, 96));
      flipped[bit >>> 3]! ^= 1 << (bit & 7);
      try {
        decodeExtentHeader(flipped, context);
      } catch (error) {
        expect(error).toBeInstanceOf(DamageError);
      }
    }
  });

  it('of random bytes is a DamageError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (noise) => {
        expect(thrownBy(() => decodeExtentHeader(noise, context))).toBeInstanceOf(DamageError);
      }),
    );
  });

  it.each<[string, Partial<ExtentContext>]>([
    ['another container', { containerId: counting(0x11, 16) }],
    ['another place', { offsetBytes: context.offsetBytes - 1 }],
    ['a place 2^32 away', { offsetBytes: 256 }],
    ['another sequence number', { sequence: 8 }],
  ])('of %s never passes', (_, other) => {
    const error = refusalBy(() => decodeExtentHeader(bytes, { ...context, ...other }));
    expect(error).toBeInstanceOf(DamageError);
    expect(error).toMatchObject({ code: 'extent-damaged', object: '/packs/x.vmar' });
  });

  it('tells its sequence where none is asked for', () => {
    const { sequence: _, ...anySequence } = context;
    expect(decodeExtentHeader(bytes, anySequence).sequence).toBe(7);
  });

  it.each<[string, number, number]>([
    ['no chunks', 36, 0],
    ['65537 chunks', 36, 65537],
    ['2^32 − 1 chunks', 36, 0xffffffff],
    ['no frames', 40, 0],
    ['4097 frames', 40, 4097],
    ['2^32 − 1 frames', 40, 0xffffffff],
    ['more frames than chunks', 40, 4],
    ['fewer bytes than frames', 44, 1],
    ['64 MiB and a byte', 44, (64 << 20) + 1],
    ['4 GiB', 44, 0xffffffff],
  ])('with %s is refused, though it alone was read', (_, at, value) => {
    const wrong = Buffer.from(bytes.subarray(0, 96));
    wrong.writeUInt32LE(value, at);
    expect(refusalBy(() => decodeExtentHeader(wrong, context))).toBeInstanceOf(DamageError);
  });

  it.each([3, 4] as const)('of content %i with two chunks or two frames is refused', (content) => {
    for (const at of [36, 40]) {
      const manifest = manifestExtentSample(content);
      const wrong = Buffer.from(encodeExtentHead(manifest, 'blake3'));
      wrong.writeUInt32LE(2, at);
      expect(refusalBy(() => decodeExtentHeader(wrong, contextOf(manifest)))).toBeInstanceOf(DamageError);
    }
  });

  it('at its limits is taken', () => {
    const full = Buffer.from(bytes.subarray(0, 96));
    full.writeUInt32LE(65536, 36);
    full.writeUInt32LE(4096, 40);
    full.writeUInt32LE(64 << 20, 44);
    const headBytes = 96 + 65536 * 48 + 4096 * 32;
    expect(decodeExtentHeader(full, context)).toMatchObject({ headBytes, totalBytes: headBytes + (64 << 20) });
  });
});

describe('the tables of an extent', () => {
  const chunkAt = (index: number) => 96 + index * 48;
  const frameAt = (index: number) => chunkAt(3) + index * 32;

  it.each<[string, (bytes: Buffer) => void]>([
    ['a chunk of no bytes', (bytes) => bytes.writeUInt32LE(0, chunkAt(2) + 32)],
    ['a chunk past 4 MiB', (bytes) => bytes.writeUInt32LE((4 << 20) + 1, chunkAt(0) + 32)],
    ['a map page among data', (bytes) => bytes.writeUInt8(1, chunkAt(1) + 36)],
    ['a chunk of kind 255', (bytes) => bytes.writeUInt8(255, chunkAt(1) + 36)],
    ['a zero byte that is none in a chunk', (bytes) => bytes.writeUInt8(1, chunkAt(1) + 37)],
    ['a cluster past 2^53', (bytes) => bytes.writeUInt32LE(1 << 21, chunkAt(1) + 44)],
    ['chunks that do not add up', (bytes) => bytes.writeUInt32LE(65535, chunkAt(0) + 32)],
    ['a frame of no chunks', (bytes) => bytes.writeUInt32LE(0, frameAt(0) + 8)],
    ['a frame of too many chunks', (bytes) => bytes.writeUInt32LE(0xffffffff, frameAt(1) + 8)],
    ['chunks in no frame', (bytes) => bytes.writeUInt32LE(1, frameAt(0) + 8)],
    ['codec 2', (bytes) => bytes.writeUInt8(2, frameAt(0) + 12)],
    ['a zero byte that is none in a frame', (bytes) => bytes.writeUInt8(1, frameAt(0) + 15)],
    ['a plain frame that is shorter than raw', (bytes) => bytes.writeUInt32LE(999, frameAt(1))],
    ['a compressed frame that is not shorter', (bytes) => bytes.writeUInt32LE(131072, frameAt(0))],
    ['a compressed frame of no bytes', (bytes) => bytes.writeUInt32LE(0, frameAt(0))],
    ['frames of another length than the header says', (bytes) => bytes.writeUInt32LE(4999, frameAt(0))],
    ['a zero byte that is none in the header', (bytes) => bytes.writeUInt8(1, 5)],
    ['another one', (bytes) => bytes.writeUInt8(1, 79)],
    ['unknown content', (bytes) => bytes.writeUInt8(5, 4)],
    ['content that they are not of', (bytes) => bytes.writeUInt8(2, 4)],
  ])('with %s are damage, whatever the seal says', (_, change) => {
    const extent = dataExtentSample();
    const bytes = resealed(extent, change);
    expect(refusalBy(() => decodeExtentHead(bytes, 'blake3', contextOf(extent)))).toBeInstanceOf(DamageError);
  });

  it('of map pages hold no data', () => {
    const extent = mapExtentSample();
    for (const kind of [0, 8, 255]) {
      const bytes = resealed(extent, (changed) => changed.writeUInt8(kind, chunkAt(0) + 36));
      expect(refusalBy(() => decodeExtentHead(bytes, 'blake3', contextOf(extent)))).toBeInstanceOf(DamageError);
    }
  });

  it('of frames past 4 MiB are damage, but for a manifest', () => {
    const large = { lengthBytes: 5 << 20, disk: 65535, where: 0, id: counting(0, 32) };
    const frame: FrameEntry = { storedBytes: 5, rawBytes: 5 << 20, chunkCount: 1, codec: 1, seal: counting(0, 16) };
    const manifest = { ...manifestExtentSample(3), chunks: [{ ...large, kind: 255 }], frames: [frame] };
    const bytes = encodeExtentHead(manifest, 'blake3');
    expect(decodeExtentHead(bytes, 'blake3', contextOf(manifest)).frames[0]!.rawBytes).toBe(5 << 20);
    const data = { ...manifest, content: 1 as const, chunks: [{ ...large, kind: 0 }] };
    expect(() => encodeExtentHead(data, 'blake3')).toThrow(BugError);
    const asData = resealed(manifest, (changed) => {
      changed.writeUInt8(1, 4);
      changed.writeUInt8(0, chunkAt(0) + 36);
    });
    expect(refusalBy(() => decodeExtentHead(asData, 'blake3', contextOf(data)))).toBeInstanceOf(DamageError);
  });

  it('are written only as they are read', () => {
    const extent = dataExtentSample();
    const [chunk, frame] = [extent.chunks[0]!, extent.frames[0]!];
    const seal = counting(0, 16);
    const wrong: Partial<Extent>[] = [
      { chunks: [], frames: [] },
      { frames: [frame] },
      { containerId: counting(0, 17) },
      { offsetBytes: 2 ** 53 },
      { chunks: extent.chunks.with(0, { ...chunk, id: counting(0, 31) }) },
      { frames: extent.frames.with(0, { ...frame, seal: counting(0, 15) }) },
      { content: 2 },
      { content: 3 },
      {
        chunks: Array<ChunkEntry>(65537).fill({ ...chunk, lengthBytes: 1 }),
        frames: [{ ...frame, storedBytes: 1, rawBytes: 65537, chunkCount: 65537 }],
      },
      {
        chunks: Array<ChunkEntry>(4097).fill({ ...chunk, lengthBytes: 1 }),
        frames: Array<FrameEntry>(4097).fill({ storedBytes: 1, rawBytes: 1, chunkCount: 1, codec: 0, seal }),
      },
      {
        chunks: Array<ChunkEntry>(17).fill({ ...chunk, lengthBytes: 4 << 20 }),
        frames: Array<FrameEntry>(17).fill({ storedBytes: 4 << 20, rawBytes: 4 << 20, chunkCount: 1, codec: 0, seal }),
      },
    ];
    for (const change of wrong) expect(() => encodeExtentHead({ ...extent, ...change }, 'blake3')).toThrow(BugError);
  });
});

/** Extents of data and of map pages, whose sums are right. */
function extents(): fc.Arbitrary<Extent> {
  const id = fc.uint8Array({ minLength: 32, maxLength: 32 });
  const seal = fc.uint8Array({ minLength: 16, maxLength: 16 });
  const chunk = fc.record({
    id,
    lengthBytes: fc.integer({ min: 1, max: 200_000 }),
    kind: fc.integer({ min: 1, max: 7 }),
    disk: fc.integer({ min: 0, max: 65535 }),
    where: fc.maxSafeNat(),
  });
  const frame = fc.record({ chunks: fc.array(chunk, { minLength: 1, maxLength: 8 }), seal, saved: fc.nat(200_000) });
  return fc
    .record({
      content: fc.constantFrom(1 as const, 2 as const),
      offsetBytes: fc.maxSafeNat(),
      sequence: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
      parts: fc.array(frame, { minLength: 1, maxLength: 6 }),
    })
    .map(({ content, offsetBytes, sequence, parts }) => ({
      content,
      containerId: CONTAINER_ID,
      offsetBytes,
      sequence,
      chunks: parts.flatMap((part) => part.chunks.map((one) => (content === 1 ? { ...one, kind: 0 } : one))),
      frames: parts.map((part): FrameEntry => {
        const rawBytes = part.chunks.reduce((sum, one) => sum + one.lengthBytes, 0);
        const storedBytes = Math.max(1, rawBytes - part.saved);
        const codec = storedBytes < rawBytes ? 1 : 0;
        return { storedBytes, rawBytes, chunkCount: part.chunks.length, codec, seal: part.seal };
      }),
    }));
}

describe('two algorithms', () => {
  it('never pass for each other', () => {
    const extent = dataExtentSample();
    for (const [written, read] of [
      ['blake3', 'sha256'],
      ['sha256', 'blake3'],
    ] as [HashName, HashName][]) {
      const bytes = encodeExtentHead(extent, written);
      expect(refusalBy(() => decodeExtentHead(bytes, read, contextOf(extent)))).toBeInstanceOf(DamageError);
    }
  });
});
