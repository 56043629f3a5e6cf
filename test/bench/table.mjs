// SPDX-License-Identifier: MIT
// Tables that read well in a terminal and are Markdown, and their place in docs/BENCHMARKS.md.
import { readFileSync, writeFileSync } from 'node:fs';

/** An aligned Markdown table: the first column to the left, the others to the right. */
export function table(head, rows) {
  const all = [head, ...rows].map((row) => row.map(String));
  const widths = head.map((_, column) => Math.max(3, ...all.map((row) => [...row[column]].length)));
  const pad = (cell, column) => {
    const space = ' '.repeat(widths[column] - [...cell].length);
    return column === 0 ? cell + space : space + cell;
  };
  const line = (row) => `| ${row.map(pad).join(' | ')} |`;
  const rule = widths.map((width, column) => (column === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`));
  return [line(all[0]), `| ${rule.join(' | ')} |`, ...all.slice(1).map(line)].join('\n');
}

/** Puts text between `<!-- name -->` and `<!-- /name -->` in a file, in place of what was there. */
export function writeBetween(path, name, text) {
  const [start, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const page = readFileSync(path, 'utf8');
  const [from, to] = [page.indexOf(start), page.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`${path} has no place for ${name}: ${start} … ${end}`);
  writeFileSync(path, `${page.slice(0, from + start.length)}\n\n${text.trim()}\n\n${page.slice(to)}`);
}
