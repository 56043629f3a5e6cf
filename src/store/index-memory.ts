// SPDX-License-Identifier: MIT
// Keeps the index's map from counting as this process's memory. LMDB maps its whole file; every page that was ever looked
// at stays in the process's resident set, which would grow with the store. The pages are the kernel's cache and stay
// there: letting go of them costs a minor fault each when they are looked at again.

import { readFileSync, realpathSync } from 'node:fs';
import { createRequire } from 'node:module';

const MADV_DONTNEED = 4;
const PAGE_BYTES = 4096;
/** File pages of this process, the program's own 50 MB counted, from which on the map is let go of. */
const MOST_RESIDENT_BYTES = 144 << 20;

type Madvise = (address: bigint, lengthBytes: bigint, advice: number) => number;

let madvise: Madvise | undefined;

function loadMadvise(): Madvise {
  const koffi: typeof import('koffi') = createRequire(import.meta.url)('koffi');
  return koffi.load(null).func('int madvise(uint64_t address, uint64_t length, int advice)');
}

/** Lets go of the pages of a mapped file if this process has many file pages resident. A hint: never fails. */
export function trimMap(path: string, mostResidentBytes = MOST_RESIDENT_BYTES): void {
  try {
    if (residentFileBytes() < mostResidentBytes) return;
    madvise ??= loadMadvise();
    for (const { start, end } of mappingsOf(realpathSync(path))) madvise(start, end - start, MADV_DONTNEED);
  } catch {
    // Then it counts as memory.
  }
}

function residentFileBytes(): number {
  return Number(readFileSync('/proc/self/statm', 'latin1').split(' ')[2]) * PAGE_BYTES;
}

/** Read-only mappings of the file: dropping their pages loses nothing. */
function mappingsOf(path: string): { start: bigint; end: bigint }[] {
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.endsWith(` ${path}`))
    .flatMap((line) => {
      const [, start, end] = /^([0-9a-f]+)-([0-9a-f]+) r--s /.exec(line) ?? [];
      return start === undefined || end === undefined ? [] : [{ start: BigInt(`0x${start}`), end: BigInt(`0x${end}`) }];
    });
}
