// SPDX-License-Identifier: MIT

import { describe, expect, it } from 'vitest';
import { sealer } from '#vmar/formats/vmar/hash.js';
import { encodeTableChunk, TABLE_CHUNK_BYTES, type TableChunk } from '#vmar/formats/vmar/trailer.js';
import { TableSum } from '#vmar/src/pipeline/table-sum.js';
import { noise } from './bytes-fixture.js';

const chunks: TableChunk[] = Array.from({ length: 300 }, (_, index) => ({
  id: noise(32, index + 1),
  frame: index >> 4,
  offsetBytes: (index & 15) * 65536,
  lengthBytes: 65536,
  kind: index % 3,
}));

function entries(list: readonly TableChunk[]): Buffer {
  const bytes = Buffer.alloc(list.length * TABLE_CHUNK_BYTES);
  for (const [index, chunk] of list.entries()) encodeTableChunk(chunk, bytes, index * TABLE_CHUNK_BYTES);
  return bytes;
}

function sumOf(list: readonly TableChunk[]): Buffer {
  const sum = new TableSum('blake3');
  for (const chunk of list) sum.addChunk(chunk);
  return Buffer.from(sum.bytes());
}

describe('TableSum', () => {
  it('is the sum of seals mod 2^128', () => {
    let expected = 0n;
    for (let at = 0; at < chunks.length; at++) {
      const seal = Buffer.from(sealer('blake3')(entries([chunks[at]!])));
      expected += seal.readBigUInt64LE(0) + (seal.readBigUInt64LE(8) << 64n);
    }
    const sum = sumOf(chunks);
    expect(sum.readBigUInt64LE(0) + (sum.readBigUInt64LE(8) << 64n)).toBe(expected % (1n << 128n));
  });

  it('is the same for chunks, for trailer entries, in any order and in parts', () => {
    const sum = new TableSum('blake3');
    sum.addEntries(entries(chunks.slice(100).toReversed()));
    sum.addSum(sumOf(chunks.slice(0, 100)));
    expect(Buffer.from(sum.bytes())).toEqual(sumOf(chunks));
  });

  it('differs when an entry is changed, missing or there twice', () => {
    const whole = sumOf(chunks);
    expect(sumOf(chunks.slice(1))).not.toEqual(whole);
    expect(sumOf([...chunks, chunks[5]!])).not.toEqual(whole);
    for (const change of [{ frame: 99 }, { offsetBytes: 1 }, { lengthBytes: 1 }, { kind: 5 }, { id: noise(32, 999) }]) {
      expect(sumOf(chunks.with(7, { ...chunks[7]!, ...change }))).not.toEqual(whole);
    }
  });
});
