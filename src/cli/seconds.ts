// SPDX-License-Identifier: MIT

/** Seconds since the process began: what a command took as its user sees it. */
export function secondsSinceStart(): number {
  return Math.round(performance.now()) / 1000;
}
