// SPDX-License-Identifier: MIT
// Guesses whether a slot will turn out to be all new, so that it can be compressed in the same task that hashes it. A
// wrong guess costs one slot's compression; a right one saves a message and finds the data still in the core's cache.

import type { Slot, SlotPool } from '../pipeline/slots.js';

/** Slots in a row that must have been all new before the next is guessed to be. */
const STREAK = 3;
/**
 * Slots held for guesses at a time. What they hold is written only after all that was dumped before them, so enough
 * others must stay free for that.
 */
const HELD = 12;

export class Foresight {
  readonly #slots: SlotPool;
  #streak: number;
  #held = 0;

  /** `optimistic` where nothing is known yet: a first backup. */
  constructor(slots: SlotPool, optimistic: boolean) {
    this.#slots = slots;
    this.#streak = optimistic ? STREAK : 0;
  }

  /** A slot to compress into, if the next slot is likely to be all new and there is room. */
  take(): Slot | undefined {
    if (this.#streak < STREAK || this.#held >= HELD || this.#slots.freeCount <= this.#slots.count / 2) return undefined;
    const slot = this.#slots.tryAcquire();
    if (slot !== undefined) this.#held++;
    return slot;
  }

  /** What `take` gave is used or released; the guess is over. */
  settle(): void {
    this.#held--;
  }

  /** How a slot turned out, guessed or not. */
  learn(allNew: boolean): void {
    this.#streak = allNew ? this.#streak + 1 : 0;
  }
}
