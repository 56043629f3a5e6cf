// SPDX-License-Identifier: MIT
// The names of what is put into a guest. By them it is known again, whoever finds it.

import { createHash, randomBytes } from 'node:crypto';

const PREFIX = 'vmar-';

/**
 * The one node that says that a backup is under way: its name is always the same, so that QEMU lets in one at a time.
 * Its file is the lock of the run's directory, whose name carries guest and run.
 */
export const RUN_NODE = `${PREFIX}run`;

/** QEMU allows 31 characters. */
export type Role = 'fleece' | 'cbw' | 'size' | 'access' | 'mark' | 'export' | 'visit';

const LETTER: Readonly<Record<Role, string>> = {
  fleece: 'f',
  cbw: 'c',
  size: 's',
  access: 'a',
  mark: 'm',
  export: 'e',
  /** An export by the NBD server of another program. */
  visit: 'v',
};

/** The names of one run: "vmar-GUESTHASH-RUN-c0". */
export class RunNames {
  readonly #stem: string;
  /** Of the run's directory. */
  readonly directory: string;

  constructor(guest: string, run = randomBytes(4).toString('hex')) {
    const hash = createHash('sha256').update(guest).digest('hex').slice(0, 8);
    this.#stem = `${PREFIX}${hash}-${run}`;
    this.directory = `${PREFIX}${guest.replace(/[^A-Za-z0-9._-]/g, '_').slice(0, 24)}-${run}`;
  }

  of(role: Role, disk = 0): string {
    return `${this.#stem}-${LETTER[role]}${disk}`;
  }
}

/** Whether a node or export is one of ours, of whatever run. */
export function isOurs(name: string): boolean {
  return name.startsWith(PREFIX);
}

export function hasRole(name: string, role: Role): boolean {
  return isOurs(name) && new RegExp(`-${LETTER[role]}\\d+$`).test(name);
}

/** Whether a directory's name is one that a run made. */
export function isRunDirectory(name: string): boolean {
  return /^vmar-[A-Za-z0-9._-]*-[0-9a-f]{8}$/.test(name);
}
