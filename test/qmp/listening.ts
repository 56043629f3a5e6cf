// SPDX-License-Identifier: MIT
// Whether somebody listens on a Unix socket, asked of the kernel: a connection to try it would be one that the program sees.

import { readFileSync } from 'node:fs';

/** As /proc/net/unix shows SO_ACCEPTCON. The socket's file is there a moment before, when it is bound. */
const ACCEPTS = '00010000';

export function isListening(path: string): boolean {
  return readFileSync('/proc/net/unix', 'latin1')
    .split('\n')
    .some((line) => line.endsWith(` ${path}`) && line.split(' ').filter((word) => word !== '')[3] === ACCEPTS);
}
