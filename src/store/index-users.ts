// SPDX-License-Identifier: MIT
// Who has the index open, by an empty file each: whoever ends without removing it was killed, or was ended by the index itself.
// LMDB trusts what it maps, so damage that nobody told of ends one command after another; a few in a row are enough.

import { randomBytes } from 'node:crypto';
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const PREFIX = 'index.user-';
/** Killed one after the other, with none that ended well between them. */
const MOST_DEAD = 3;

/** Says that this process opens the index; gives what is to be called when it has closed it. */
export function enterUser(directory: string): () => void {
  const path = join(directory, `${PREFIX}${randomBytes(8).toString('hex')}`);
  try {
    writeFileSync(path, '', { mode: 0o600, flag: 'wx' });
  } catch {
    // Full, or read-only: then nobody knows.
  }
  return () => rmSync(path, { force: true });
}

/** By who is alone: whether it has not ended all who opened it lately, as far as can be told. If it may have, they are forgotten. */
export function isTrustworthy(directory: string): boolean {
  if (deadUsers(directory).length < MOST_DEAD) return true;
  forgetDeadUsers(directory);
  return false;
}

/** By who is alone. */
export function forgetDeadUsers(directory: string): void {
  for (const name of deadUsers(directory)) rmSync(join(directory, name), { force: true });
}

function deadUsers(directory: string): string[] {
  return readdirSync(directory).filter((name) => name.startsWith(PREFIX));
}
