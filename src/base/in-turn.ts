// SPDX-License-Identifier: MIT
// Brings back into order what was worked on side by side.

/** Steps by number: each runs as soon as all before it were run. */
export class InTurn {
  #next: number;
  readonly #waiting = new Map<number, { readonly count: number; readonly step: () => void }>();

  constructor(first = 0) {
    this.#next = first;
  }

  /** A step that stands for `count` numbers from `first` on. Runs before it returns if it is its turn. */
  add(first: number, count: number, step: () => void): void {
    this.#waiting.set(first, { count, step });
    for (let due = this.#waiting.get(this.#next); due !== undefined; due = this.#waiting.get(this.#next)) {
      this.#waiting.delete(this.#next);
      this.#next += due.count;
      due.step();
    }
  }
}
