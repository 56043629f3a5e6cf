// SPDX-License-Identifier: MIT
// Where the library says what it does. It never writes to the terminal itself: the caller hands in a Log.

export interface Log {
  /** Worth knowing without being asked: an index rebuilt, a session swept. */
  info(message: string): void;
  /** Something is not as it should be, but the work goes on. */
  warn(message: string): void;
  /** Only with --verbose. */
  debug(message: string): void;
}

/** The default: says nothing. */
export const SILENT: Log = {
  info() {},
  warn() {},
  debug() {},
};
