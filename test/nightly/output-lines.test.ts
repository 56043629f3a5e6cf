// SPDX-License-Identifier: MIT
// Lines are those that were written, however they come in; what is too long is cut and takes no memory.

import { expect, it } from 'vitest';
import { OutputLines } from '#vmar/src/nightly/output-lines.js';

function linesOf(pieces: readonly Uint8Array[]): string[] {
  const found: string[] = [];
  const lines = new OutputLines((line) => found.push(line));
  for (const piece of pieces) lines.add(piece);
  lines.end();
  return found;
}

it('are the same wherever the pieces are cut', () => {
  const bytes = Buffer.from('one\r\n\ntwo\rthrée\n\r€uro\n last');
  const expected = ['one', '', 'two', 'thrée', '', '€uro', ' last'];
  for (let a = 0; a <= bytes.length; a++) {
    for (let b = a; b <= bytes.length; b++) {
      expect(linesOf([bytes.subarray(0, a), bytes.subarray(a, b), bytes.subarray(b)])).toEqual(expected);
    }
  }
});

it('that are too long are cut, and the next begins where it should', () => {
  const long = Buffer.alloc(100_000, 'x');
  expect(linesOf([long, long, Buffer.from('\nnext\n')])).toEqual([`${'x'.repeat(4096)}…`, 'next']);
  expect(linesOf([Buffer.from(`${'y'.repeat(4096)}\n`)])).toEqual(['y'.repeat(4096)]);
});

it('that never end take no memory', () => {
  const found: string[] = [];
  const lines = new OutputLines((line) => found.push(line));
  const piece = Buffer.alloc(1 << 20, 'z');
  // As one text it would be longer than JavaScript has texts.
  for (let n = 0; n < 600; n++) lines.add(piece);
  lines.end();
  expect(found).toEqual([`${'z'.repeat(4096)}…`]);
});
