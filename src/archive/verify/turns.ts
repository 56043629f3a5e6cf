// SPDX-License-Identifier: MIT
// Lets signals, timers and other work have their turn during work that hardly ever waits.

import { setImmediate as letOthersRun } from 'node:timers/promises';

const TURN_MILLIS = 20;

/** Called often; lets others run now and then, and throws when the signal says so. */
export type TakeTurn = () => Promise<void>;

export function takingTurns(signal?: AbortSignal): TakeTurn {
  let last = performance.now();
  return async () => {
    if (performance.now() - last < TURN_MILLIS) return;
    await letOthersRun();
    last = performance.now();
    signal?.throwIfAborted();
  };
}
