// SPDX-License-Identifier: MIT
// Aligned columns without borders. Lists have ten thousand rows: the time goes with them, not with their square.

import { stripVTControlCharacters } from 'node:util';
import type { Paint } from './paint.js';

export interface Column {
  readonly title: string;
  /** Numbers are aligned to the right. */
  readonly align?: 'right';
}

const GAP = '   ';

export function renderTable(paint: Paint, columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const lines = [columns.map(({ title }) => paint('bold', title)), ...rows];
  const widths = columns.map((_, column) => lines.reduce((most, line) => Math.max(most, cellWidth(line[column])), 0));
  return lines.map((line) => renderLine(columns, widths, line)).join('\n');
}

function renderLine(columns: readonly Column[], widths: readonly number[], cells: readonly string[]): string {
  const padded = columns.map(({ align }, column) => {
    const cell = cells[column] ?? '';
    const padding = ' '.repeat(widths[column]! - cellWidth(cell));
    return align === 'right' ? padding + cell : cell + padding;
  });
  return padded.join(GAP).trimEnd();
}

const ASCII = /^[ -~]*$/;
const NO_WIDTH = /[\p{Mn}\p{Me}\p{Cf}]/gu;
/** What terminals show two columns wide: the scripts of East Asia, and pictures. */
const WIDE =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}|[\u{20000}-\u{3fffd}]/gu;

/** Columns of a terminal that the cell takes; colours take none. */
function cellWidth(cell = ''): number {
  if (ASCII.test(cell)) return cell.length;
  const shown = stripVTControlCharacters(cell).replace(NO_WIDTH, '');
  return [...shown].length + (shown.match(WIDE)?.length ?? 0);
}
