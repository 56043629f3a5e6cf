// SPDX-License-Identifier: MIT
// How many requests, and how much memory for them, one client may hold; and its turn at the memory of all.

import type { NbdLimits } from './limits.js';
import type { MemoryBudget } from './memory-budget.js';

export class Admission {
  readonly #limits: NbdLimits;
  readonly #budget: MemoryBudget;
  readonly #onTurn: () => void;
  #requests = 0;
  #bytes = 0;
  /** The place in the line for the server's memory, or what was got there for the request that waits. */
  #turn:
    | { readonly state: 'none' }
    | { readonly state: 'waiting'; readonly leave: () => void }
    | { readonly state: 'granted'; readonly bytes: number } = { state: 'none' };

  /** @param onTurn there is memory for the request that was turned away: offer it again */
  constructor(limits: NbdLimits, budget: MemoryBudget, onTurn: () => void) {
    this.#limits = limits;
    this.#budget = budget;
    this.#onTurn = onTurn;
  }

  /** Requests that were let in and have not left. */
  get requests(): number {
    return this.#requests;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** False: not now. Offer the same request again after the next `leave`, or when `onTurn` says so. */
  enter(bytes: number): boolean {
    if (this.#turn.state === 'waiting') return false;
    if (this.#requests >= this.#limits.requestsPerConnection) return false;
    if (this.#bytes > 0 && this.#bytes + bytes > this.#limits.bytesPerConnection) return false;
    if (this.#turn.state === 'granted') {
      this.#turn = { state: 'none' };
    } else if (bytes > 0 && !this.#budget.tryTake(bytes)) {
      this.#turn = { state: 'waiting', leave: this.#budget.wait(bytes, () => this.#granted(bytes)) };
      return false;
    }
    this.#requests++;
    this.#bytes += bytes;
    return true;
  }

  leave(requests: number, bytes: number): void {
    this.#requests -= requests;
    this.#bytes -= bytes;
    if (bytes > 0) this.#budget.give(bytes);
  }

  /** The request that waits will not be offered again. */
  giveUp(): void {
    const turn = this.#turn;
    this.#turn = { state: 'none' };
    if (turn.state === 'waiting') turn.leave();
    if (turn.state === 'granted') this.#budget.give(turn.bytes);
  }

  #granted(bytes: number): void {
    this.#turn = { state: 'granted', bytes };
    this.#onTurn();
  }
}
