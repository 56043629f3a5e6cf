// SPDX-License-Identifier: MIT
// Moves a guest to its targets, however long that takes: the guest may not be started yet, its monitor busy, a backup of it
// under way. Until it is moved it is served; what stands in the way is told, and tried again.

import type { Clock } from '../../base/clock.js';
import { InterruptedError, VmarError } from '../../base/errors.js';
import type { LiveEvent } from '../live-event.js';
import { checkSwitchable, type SwitchFeatures } from './switch-features.js';
import { type SwitchDisk, type SwitchHost, type SwitchReport, switchOver } from './switch-over.js';

const FIRST_PAUSE_MILLIS = 500;
const LONGEST_PAUSE_MILLIS = 15_000;
/** A guest that is not started yet, or whose monitor is busy, is waited for by looking often: that costs nothing. */
const AWAY_PAUSE_MILLIS = 1000;
/** Between two messages of the same. */
const REMIND_MILLIS = 60_000;

export interface MoverOptions {
  readonly host: SwitchHost;
  readonly clock: Clock;
  readonly onEvent: (event: LiveEvent) => void;
}

export class GuestMover {
  readonly #options: MoverOptions;
  #met: SwitchFeatures | undefined;
  #isAtWork = false;
  #told: { readonly problem: string; readonly atMillis: number } | undefined;

  constructor(options: MoverOptions) {
    this.#options = options;
  }

  /** While the disks are being filled: is there a guest that can be moved? Tells it once; ends when it knows. */
  async lookAhead(signal: AbortSignal): Promise<void> {
    await this.#persist(signal, () => this.#meet(signal));
  }

  /** Disks may be changing sides just now. */
  get isAtWork(): boolean {
    return this.#isAtWork;
  }

  /**
   * Resolves when the guest is moved; undefined when the signal has aborted before.
   * @param onRest called after an attempt that failed
   */
  async move(disks: readonly SwitchDisk[], signal: AbortSignal, onRest: () => void): Promise<SwitchReport | undefined> {
    return await this.#persist(signal, async () => {
      await this.#meet(signal);
      this.#isAtWork = true;
      try {
        return await switchOver(this.#options.host, disks, signal);
      } catch (error) {
        this.#isAtWork = false;
        onRest();
        throw error;
      }
    });
  }

  async #meet(signal: AbortSignal): Promise<void> {
    if (this.#met !== undefined) return;
    const monitor = await this.#options.host.openMonitor(signal);
    try {
      this.#met = await checkSwitchable(monitor);
      this.#told = undefined;
      const { qemu, hasAllocTrack } = this.#met;
      this.#options.onEvent({ kind: 'guest', monitor: monitor.name, qemu, hasAllocTrack });
    } finally {
      await monitor.close();
    }
  }

  async #persist<T>(signal: AbortSignal, attempt: () => Promise<T>): Promise<T | undefined> {
    let pause = FIRST_PAUSE_MILLIS;
    while (!signal.aborted) {
      try {
        return await attempt();
      } catch (error) {
        if (signal.aborted || error instanceof InterruptedError) return undefined;
        if (!(error instanceof VmarError)) throw error;
        const isAway = error.code === 'qmp-missing' || error.code === 'qmp-busy';
        this.#tell(error);
        await this.#options.clock.sleep(isAway ? AWAY_PAUSE_MILLIS : pause, signal).catch(() => undefined);
        if (!isAway) pause = Math.min(2 * pause, LONGEST_PAUSE_MILLIS);
      }
    }
    return undefined;
  }

  #tell({ code, message: problem, object, expected, found, advice }: VmarError): void {
    const now = this.#options.clock.monotonicMillis();
    if (this.#told?.problem === problem && now - this.#told.atMillis < REMIND_MILLIS) return;
    this.#told = { problem, atMillis: now };
    this.#options.onEvent({
      ...{ kind: 'not-switched', code, problem },
      ...(object !== undefined && { object }),
      ...(expected !== undefined && { expected }),
      ...(found !== undefined && { found }),
      ...(advice !== undefined && { advice }),
    });
  }
}
