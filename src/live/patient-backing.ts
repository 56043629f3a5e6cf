// SPDX-License-Identifier: MIT
// A backup whose datastore may go away and come back: requests wait for it, for as long as it takes.
//
// Guarantees: a request that the unreachable datastore failed is tried again until it succeeds, fails for another reason
// or the restore stops. It never gives zeros, nor anything else, in place of what cannot be read.

import type { Clock } from '../base/clock.js';
import { DamageError, FailedError, InterruptedError } from '../base/errors.js';
import type { BlockDevice, BlockExtent } from '../block/device.js';

const FIRST_PAUSE_MILLIS = 100;
const LONGEST_PAUSE_MILLIS = 10_000;
/** Between two messages that it is still away. */
const REMIND_MILLIS = 60_000;

export interface PatientBackingOptions {
  readonly clock: Clock;
  /** Ends the waiting: what waits then fails. */
  readonly signal: AbortSignal;
  /** It is away; told at once, and again now and then. */
  readonly onAway?: (error: FailedError, awaySeconds: number) => void;
  /** It is back. */
  readonly onBack?: (awaySeconds: number) => void;
  /** Each read that damage failed. */
  readonly onDamaged?: (error: DamageError) => void;
}

export class PatientBacking implements BlockDevice {
  readonly readOnly = true;
  readonly #device: BlockDevice;
  readonly #options: PatientBackingOptions;
  /** Set while it is away. */
  #away: { readonly sinceMillis: number; toldMillis: number } | undefined;

  constructor(device: BlockDevice, options: PatientBackingOptions) {
    this.#device = device;
    this.#options = options;
  }

  get name(): string {
    return this.#device.name;
  }

  get lengthBytes(): number {
    return this.#device.lengthBytes;
  }

  get alignmentBytes(): number {
    return this.#device.alignmentBytes;
  }

  read(offsetBytes: number, into: Uint8Array): Promise<void> {
    return this.#untilThere(() => this.#device.read(offsetBytes, into));
  }

  blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]> {
    return this.#untilThere(() => this.#device.blockStatus(offsetBytes, lengthBytes));
  }

  async prefetch(offsetBytes: number, lengthBytes: number): Promise<void> {
    await this.#device.prefetch?.(offsetBytes, lengthBytes);
  }

  write(offsetBytes: number, from: Uint8Array): Promise<void> {
    return this.#device.write(offsetBytes, from);
  }

  writeZeroes(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.#device.writeZeroes(offsetBytes, lengthBytes);
  }

  discard(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.#device.discard(offsetBytes, lengthBytes);
  }

  async flush(): Promise<void> {}

  close(): Promise<void> {
    return this.#device.close();
  }

  async #untilThere<T>(request: () => Promise<T>): Promise<T> {
    const { clock, signal } = this.#options;
    for (let pause = FIRST_PAUSE_MILLIS; ; pause = Math.min(2 * pause, LONGEST_PAUSE_MILLIS)) {
      if (signal.aborted) throw new InterruptedError();
      try {
        const result = await request();
        this.#isBack();
        return result;
      } catch (error) {
        if (error instanceof DamageError) this.#options.onDamaged?.(error);
        if (!(error instanceof FailedError) || error.code !== 'store-unreachable') throw error;
        this.#isAway(error);
      }
      await clock.sleep(pause, signal);
    }
  }

  #isAway(error: FailedError): void {
    const now = this.#options.clock.monotonicMillis();
    const away = this.#away;
    if (away !== undefined && now - away.toldMillis < REMIND_MILLIS) return;
    this.#away = { sinceMillis: away?.sinceMillis ?? now, toldMillis: now };
    this.#options.onAway?.(error, (now - this.#away.sinceMillis) / 1000);
  }

  #isBack(): void {
    if (this.#away === undefined) return;
    const seconds = (this.#options.clock.monotonicMillis() - this.#away.sinceMillis) / 1000;
    this.#away = undefined;
    this.#options.onBack?.(seconds);
  }
}
