// SPDX-License-Identifier: MIT
// The last line of a terminal, which shows what goes on and is written over.

/** What is done within this shows nothing. */
export const QUIET_MILLIS = 2000;
export const CLEAR_LINE = '\r\u001b[K';
/** Of a terminal that does not tell. */
const DEFAULT_COLUMNS = 80;

/** The last column stays free: some terminals begin a new line when it is written to. */
export function lineColumns({ columns }: NodeJS.WriteStream): number {
  return (columns || DEFAULT_COLUMNS) - 1;
}
