// SPDX-License-Identifier: MIT
// Block status as a server tells it, as the extents of a device.

import type { BlockExtent } from '../../block/device.js';
import { ALLOCATION, BITMAP_DIRTY } from '../protocol/constants.js';
import type { Answer, StatusRun } from './exchange.js';
import type { Terms } from './negotiate.js';

export interface DirtyExtent {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly dirty: boolean;
}

/** Depth of what is the image's own; 0 is nowhere in the chain, more is in a backing file. */
const OWN_DEPTH = 1;

/** Extents from `offsetBytes` on, as far as all contexts tell; neighbours of equal state are joined. */
export function allocationExtents(answer: Answer, contexts: Terms['contexts'], offsetBytes: number): BlockExtent[] {
  const allocation = runsOf(answer, contexts.allocation);
  const depth = contexts.depth === undefined ? undefined : runsOf(answer, contexts.depth);
  const extents: { offsetBytes: number; lengthBytes: number; state: 'data' | 'zero'; backed?: boolean }[] = [];
  let at = offsetBytes;
  for (const {
    lengthBytes,
    flags: [status, level],
  } of zip(allocation, depth)) {
    const state = ((status ?? 0) & ALLOCATION.zero) === 0 ? 'data' : 'zero';
    const backed = level === undefined ? undefined : level !== OWN_DEPTH;
    const last = extents.at(-1);
    if (last !== undefined && last.state === state && last.backed === backed) last.lengthBytes += lengthBytes;
    else extents.push({ offsetBytes: at, lengthBytes, state, ...(backed === undefined ? {} : { backed }) });
    at += lengthBytes;
  }
  return extents;
}

export function dirtyExtents(answer: Answer, contexts: Terms['contexts'], offsetBytes: number): DirtyExtent[] {
  const extents: { offsetBytes: number; lengthBytes: number; dirty: boolean }[] = [];
  let at = offsetBytes;
  for (const { lengthBytes, flags } of runsOf(answer, contexts.bitmap)) {
    const dirty = (flags & BITMAP_DIRTY) !== 0;
    const last = extents.at(-1);
    if (last?.dirty === dirty) last.lengthBytes += lengthBytes;
    else extents.push({ offsetBytes: at, lengthBytes, dirty });
    at += lengthBytes;
  }
  return extents;
}

function runsOf(answer: Answer, context: number | undefined): readonly StatusRun[] {
  return (context === undefined ? undefined : answer.runs.get(context)) ?? [];
}

/** Both lists side by side, cut where either changes, as far as both go. */
function* zip(
  first: readonly StatusRun[],
  second: readonly StatusRun[] | undefined,
): Generator<{ lengthBytes: number; flags: readonly [number, number?] }> {
  if (second === undefined) {
    for (const { lengthBytes, flags } of first) yield { lengthBytes, flags: [flags] };
    return;
  }
  let [a, b, usedA, usedB] = [0, 0, 0, 0];
  for (let one = first[a], two = second[b]; one !== undefined && two !== undefined; one = first[a], two = second[b]) {
    const lengthBytes = Math.min(one.lengthBytes - usedA, two.lengthBytes - usedB);
    yield { lengthBytes, flags: [one.flags, two.flags] };
    usedA += lengthBytes;
    usedB += lengthBytes;
    if (usedA === one.lengthBytes) [a, usedA] = [a + 1, 0];
    if (usedB === two.lengthBytes) [b, usedB] = [b + 1, 0];
  }
}
