// SPDX-License-Identifier: MIT
// For a loop that sleeps until something has happened: nothing that happens while it works is missed.

export class WakeSignal {
  #isSet = false;
  #waiter: (() => void) | undefined;

  /** Lets `wait` go on, now or when it is next called. */
  wake(): void {
    this.#isSet = true;
    this.#waiter?.();
  }

  /** Resolves once `wake` was called since the last `wait` resolved. For one caller at a time. */
  async wait(): Promise<void> {
    if (!this.#isSet) await new Promise<void>((resolve) => (this.#waiter = resolve));
    this.#isSet = false;
    this.#waiter = undefined;
  }
}
