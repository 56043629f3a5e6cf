// SPDX-License-Identifier: MIT
// Aligned columns without borders.

import Table from 'cli-table3';
import type { Paint } from './paint.js';

export interface Column {
  readonly title: string;
  /** Numbers are aligned to the right. */
  readonly align?: 'right';
}

const GAP = '   ';
const NO_BORDERS = Object.fromEntries(
  ['top', 'bottom', 'mid', 'left', 'right'].flatMap((side) =>
    ['', '-mid', '-left', '-right'].map((corner) => [`${side}${corner}`, '']),
  ),
);

export function renderTable(paint: Paint, columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const table = new Table({
    head: columns.map(({ title }) => paint('bold', title)),
    chars: { ...NO_BORDERS, middle: GAP },
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
    colAligns: columns.map(({ align }) => align ?? 'left'),
  });
  table.push(...rows.map((row) => [...row]));
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}
