// SPDX-License-Identifier: MIT

import { describe, expect, it } from 'vitest';
import { createPaint } from '#vmar/src/cli/paint.js';
import { renderTable } from '#vmar/src/cli/table.js';

const plain = createPaint(undefined, {});
const columns = [{ title: 'name' }, { title: 'size', align: 'right' as const }, { title: 'why' }];

describe('renderTable', () => {
  it('aligns columns, numbers to the right, and leaves nothing at the ends of lines', () => {
    expect(
      renderTable(plain, columns, [
        ['a', '1', 'x'],
        ['long one', '1000', ''],
      ]).split('\n'),
    ).toEqual(['name       size   why', 'a             1   x', 'long one   1000']);
  });

  it('counts neither colours nor accents, and what is wide twice', () => {
    const rows = [
      ['\u001b[31mred\u001b[39m', '1', 'x'],
      ['e\u0301te\u0301', '1', 'x'],
      ['\u65e5\u672c', '1', 'x'],
    ];
    expect(renderTable(plain, columns, rows).split('\n')).toEqual([
      'name   size   why',
      '\u001b[31mred\u001b[39m       1   x',
      'e\u0301te\u0301       1   x',
      '\u65e5\u672c      1   x',
    ]);
  });

  it('has only its titles where there are no rows', () => {
    expect(renderTable(plain, columns, [])).toBe('name   size   why');
  });
});
