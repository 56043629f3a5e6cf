// SPDX-License-Identifier: MIT
// Steps one after another, until the first that fails.

/** The first failure, of a step or told by `fail`, is final: steps that have not begun are left out. */
export class StepChain {
  readonly #onFailure: (error: unknown) => void;
  #failure: { readonly error: unknown } | undefined;
  /** Never rejects. */
  #end: Promise<void> = Promise.resolve();

  /** `onFailure` is told of the first failure, once. */
  constructor(onFailure: (error: unknown) => void) {
    this.#onFailure = onFailure;
  }

  get failure(): { readonly error: unknown } | undefined {
    return this.#failure;
  }

  add(step: () => Promise<void>): void {
    this.#end = this.#end
      .then(async () => {
        this.check();
        await step();
      })
      .catch((error: unknown) => this.fail(error));
  }

  fail(error: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = { error };
    this.#onFailure(error);
  }

  /** Throws what failed. */
  check(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /** Resolves when all steps have ended, failed or not. */
  ended(): Promise<void> {
    return this.#end;
  }

  /** Resolves when all steps are done. @throws what failed */
  async settled(): Promise<void> {
    await this.#end;
    this.check();
  }
}
