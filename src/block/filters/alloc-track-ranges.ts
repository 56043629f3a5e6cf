// SPDX-License-Identifier: MIT
// Ranges and how they split where the bitmap of what is held flips.

import type { DirtyBitmap } from '../dirty-bitmap.js';

/** Bytes [from, to). */
export interface Range {
  readonly from: number;
  readonly to: number;
}

/** The range in parts that are wholly held or wholly not; each is looked up when it is asked for. */
export function* flips(held: DirtyBitmap, from: number, to: number): Generator<Range & { readonly held: boolean }> {
  for (let at = from; at < to; ) {
    const isHeld = held.get(at);
    const end = (isHeld ? held.nextClean(at, to) : held.nextDirty(at, to)) ?? to;
    yield { from: at, to: end, held: isHeld };
    at = end;
  }
}

/** Waits for all, then rejects with the first error: nothing works on when it has settled. */
export async function allSettled(tasks: readonly Promise<void>[]): Promise<void> {
  if (tasks.length === 1) return tasks[0];
  for (const result of await Promise.allSettled(tasks)) if (result.status === 'rejected') throw result.reason;
}
