// SPDX-License-Identifier: MIT
// How many files this process may have open. Node.js raises its limit as far as it may when it starts.

import { readFileSync } from 'node:fs';

let most: number | undefined;

/** Infinity where there is no limit, or none is told. */
export function mostOpenFiles(): number {
  most ??= readLimit();
  return most;
}

function readLimit(): number {
  try {
    const found = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1];
    return found === undefined ? Number.POSITIVE_INFINITY : Number(found);
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}
