// SPDX-License-Identifier: MIT
// Follows the maps of many backups. What they miss is looked for in one pass for all of them, and then those that missed
// something are followed to their end.

import type { LostChunks } from './lost-chunks.js';

export interface Following<Item> {
  /** What is to be followed, in this order. */
  readonly items: readonly Item[];
  /** Whether all of an item is known now; if not, it waits for the next pass. */
  readonly follow: (item: Item) => Promise<boolean>;
  readonly lost: LostChunks;
  /** Nothing more is begun, nor looked for, after this; but the first item is followed to its end. */
  readonly isOver: () => boolean;
}

/** @returns the items that were followed to their end. */
export async function followAll<Item>({ items, follow, lost, isOver }: Following<Item>): Promise<Item[]> {
  const done: Item[] = [];
  const waiting: Item[] = [];
  const [first] = items;
  let isFirstDone = false;
  const mayEnd = (): boolean => isOver() && isFirstDone;
  const take = async (item: Item): Promise<void> => {
    const isDone = await follow(item);
    (isDone ? done : waiting).push(item);
    isFirstDone ||= isDone && item === first;
  };
  const settle = async (): Promise<boolean> => {
    if (!(await lost.look(mayEnd))) return false;
    for (const item of waiting.splice(0)) {
      if (mayEnd()) return false;
      await take(item);
    }
    return true;
  };
  for (const item of items) {
    if (item !== first && isOver()) break;
    if (lost.isFull && !(await settle())) return done;
    await take(item);
  }
  for (let goesOn = true; goesOn && waiting.length > 0; ) goesOn = await settle();
  return done;
}
