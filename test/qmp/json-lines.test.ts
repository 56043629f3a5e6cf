// SPDX-License-Identifier: MIT
// Proves: lines are cut the same however the bytes come in, and nothing that a peer sends takes memory without bound.

import { describe, expect, it } from 'vitest';
import { LineFault, LineSplitter, MOST_DEPTH, parseLine } from '#vmar/src/qmp/json-lines.js';
import { seededRandom } from '../base/random.js';

describe('LineSplitter', () => {
  it.each([1, 2, 3, 4, 5])('cuts lines wherever the pieces end, seed %i', (seed) => {
    const random = seededRandom(seed);
    const lines = Array.from({ length: 50 }, () => 'x'.repeat(random.integer(0, 40)));
    const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(''));
    const splitter = new LineSplitter();
    const got: string[] = [];
    for (let at = 0; at < bytes.length; ) {
      const piece = Buffer.from(bytes.subarray(at, at + random.integer(1, 30)));
      got.push(...splitter.push(piece).map(String));
      at += piece.length;
      piece.fill(0);
    }
    expect(got).toEqual(lines);
    expect(splitter.held.length).toBe(0);
  });

  it('refuses a line without an end', () => {
    const splitter = new LineSplitter(1000);
    splitter.push(Buffer.alloc(600, 0x20));
    expect(() => splitter.push(Buffer.alloc(600, 0x20))).toThrow(LineFault);
  });
});

describe('parseLine', () => {
  it('reads JSON, with brackets in texts', () => {
    const value = { a: ['[[[{{{', '\\"[', { b: null }] };
    expect(parseLine(Buffer.from(JSON.stringify(value)))).toEqual(value);
  });

  it('refuses what is nested too deep, and what is no JSON', () => {
    const deep = (depth: number) => Buffer.from('['.repeat(depth) + ']'.repeat(depth));
    expect(() => parseLine(deep(MOST_DEPTH))).not.toThrow();
    expect(() => parseLine(deep(MOST_DEPTH + 1))).toThrow(LineFault);
    for (const bad of ['', '{', '{"a":}', '\xff', '"\\', 'undefined']) {
      expect(() => parseLine(Buffer.from(bad, 'latin1'))).toThrow(LineFault);
    }
  });
});
