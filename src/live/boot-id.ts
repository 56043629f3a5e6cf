// SPDX-License-Identifier: MIT
// Which run of the kernel this is.

import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';

/** Where the kernel does not tell, an id that no other process has: nothing unflushed is trusted then. */
export async function readBootId(): Promise<string> {
  try {
    return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  } catch {
    return randomUUID();
  }
}
