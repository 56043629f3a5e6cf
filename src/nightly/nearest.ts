// SPDX-License-Identifier: MIT
// What somebody may have meant who mistyped.

/** The known word that is nearest to `text`, if any is near enough to be meant. */
export function nearest(text: string, known: Iterable<string>): string | undefined {
  let best: string | undefined;
  // More than a third wrong is another word.
  let least = Math.max(1, Math.floor(text.length / 3)) + 1;
  for (const word of known) {
    if (Math.abs(word.length - text.length) >= least) continue;
    const distance = editDistance(text.toLowerCase(), word.toLowerCase());
    if (distance >= least) continue;
    least = distance;
    best = word;
  }
  return best;
}

/** How many letters must be put in, taken out, changed, or swapped with the next. */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      let least = Math.min(change, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1);
      const isSwap = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (isSwap) least = Math.min(least, (before[j - 2] ?? 0) + 1);
      next.push(least);
    }
    before = row;
    row = next;
  }
  return row[b.length] ?? 0;
}
