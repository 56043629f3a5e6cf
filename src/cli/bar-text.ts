// SPDX-License-Identifier: MIT
// One line of a progress bar, as wide as the terminal allows: what matters most stays longest.

/** Few lengths, so that it does not flicker with the figures beside it. */
const CELLS = [24, 16, 8];

export interface BarFacts {
  /** What is done: "backing up" */
  readonly label: string;
  /** From 0 to 1. */
  readonly share: number;
  /** "1.2 GiB of 64 GiB" */
  readonly amount: string;
  /** "512 MiB/s" */
  readonly rate: string;
  /** "2 min 5 s left"; "" where it cannot be told */
  readonly left: string;
}

/** Fits into `columns`. Gives up the bar first, then the amounts, then the rate, then what remains, then its own end. */
export function barText({ label, share, amount, rate, left }: BarFacts, columns: number): string {
  const percent = `${Math.floor(share * 100)} %`;
  const facts = [amount, rate, left].filter((fact) => fact !== '').join(', ');
  const roomCells = columns - `${label} [] ${percent}  ${facts}`.length;
  const cells = CELLS.find((count) => count <= roomCells);
  if (cells !== undefined) {
    const full = Math.round(share * cells);
    return `${label} [${'#'.repeat(full)}${'-'.repeat(cells - full)}] ${percent}  ${facts}`;
  }
  for (const kept of [[amount, rate, left], [rate, left], [left]]) {
    const text = [`${label} ${percent}`, ...kept.filter((fact) => fact !== '')].join(', ');
    if (text.length <= columns) return text;
  }
  return `${label} ${percent}`.slice(0, columns);
}
