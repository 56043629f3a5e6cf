// SPDX-License-Identifier: MIT
// Ranges of a disk that a restore could not have, neighbours joined: a lost pack may be a hundred thousand clusters.

export interface LostRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** Of the first part of it. */
  readonly problem: string;
}

/** Adds a range, which most often follows the last one. */
export function addRange(ranges: LostRange[], range: LostRange): void {
  const last = ranges.at(-1);
  if (last === undefined || last.offsetBytes + last.lengthBytes !== range.offsetBytes) ranges.push(range);
  else ranges[ranges.length - 1] = { ...last, lengthBytes: last.lengthBytes + range.lengthBytes };
}

/** All of them, in order. */
export function joinRanges(ranges: readonly LostRange[]): LostRange[] {
  const joined: LostRange[] = [];
  for (const range of [...ranges].sort((a, b) => a.offsetBytes - b.offsetBytes)) addRange(joined, range);
  return joined;
}
