// SPDX-License-Identifier: MIT
// Whose files are: where root works on a datastore of somebody else, what it makes is that one's, who could not use the
// datastore any more otherwise.

import { constants, type Stats, statSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';

export interface FileOwner {
  readonly uid: number;
  readonly gid: number;
}

/** Whose a file is, if we are root and it is another's; undefined else, as where there is no such file. */
export function otherOwner(path: string): FileOwner | undefined {
  if (process.geteuid?.() !== 0) return undefined;
  const stats = statSync(path, { throwIfNoEntry: false });
  return stats === undefined || stats.uid === 0 ? undefined : { uid: stats.uid, gid: stats.gid };
}

/** Gives a new file or directory of ours away. Where the file system or its server does not allow that, it stays ours. */
export async function giveAway(handle: FileHandle, owner: FileOwner): Promise<void> {
  const { uid, gid }: Stats = await handle.stat();
  if (uid === owner.uid && gid === owner.gid) return;
  await handle.chown(owner.uid, owner.gid).catch(() => undefined);
}

/** As giveAway, and never of what a link leads to. */
export async function giveDirectoryAway(path: string, owner: FileOwner): Promise<void> {
  const handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    await giveAway(handle, owner);
  } finally {
    await handle.close();
  }
}
