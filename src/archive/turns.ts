// SPDX-License-Identifier: MIT
// Lets signals, timers and other work have their turn during work that hardly ever waits.

import { setImmediate as letOthersRun } from 'node:timers/promises';

/** Where nobody waits for anything else but signals and progress. */
const TURN_MILLIS = 20;

/** Called often; lets others run now and then, and throws when the signal says so. */
export type TakeTurn = () => Promise<void>;

export function takingTurns(signal?: AbortSignal, turnMillis = TURN_MILLIS): TakeTurn {
  let last = performance.now();
  return async () => {
    if (performance.now() - last < turnMillis) return;
    await letOthersRun();
    last = performance.now();
    signal?.throwIfAborted();
  };
}
