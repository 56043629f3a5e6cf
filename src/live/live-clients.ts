// SPDX-License-Identifier: MIT
// When the last client of a live restore has left for good.

import type { Clock } from '../base/clock.js';

/** A client that was cut off, or a second one that takes over, comes back within this. */
const GRACE_MILLIS = 1000;

/** Counts clients, and calls back when there has been none for a while. */
export class LiveClients {
  #count = 0;
  #hadSome = false;
  #turns = 0;
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  readonly #onChange: () => void;
  #isQuiet = false;

  /** @param onChange called when `areGone` may have changed */
  constructor(clock: Clock, signal: AbortSignal, onChange: () => void) {
    this.#clock = clock;
    this.#signal = signal;
    this.#onChange = onChange;
  }

  /** Somebody is connected. */
  get arePresent(): boolean {
    return this.#count > 0;
  }

  /** Somebody was connected, and for a while nobody is. */
  get areGone(): boolean {
    return this.#hadSome && this.#isQuiet;
  }

  set count(count: number) {
    const turn = ++this.#turns;
    this.#count = count;
    this.#isQuiet = false;
    if (count > 0) {
      this.#hadSome = true;
      return;
    }
    this.#clock.sleep(GRACE_MILLIS, this.#signal).then(
      () => {
        if (turn !== this.#turns) return;
        this.#isQuiet = true;
        this.#onChange();
      },
      () => undefined,
    );
  }
}
