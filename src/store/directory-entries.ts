// SPDX-License-Identifier: MIT
// What lies in a directory of a datastore. Symbolic links are followed: who moved a part of a datastore to another disk and
// left a link there has not lost it, and gc must not take it for gone.

import type { Dirent } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { storeFailure, systemCode } from './fs.js';

export interface DirectoryEntry {
  readonly name: string;
  /** 'lost': a link that leads nowhere, as when a disk is not mounted. 'other': a FIFO, a socket, a device. */
  readonly kind: 'file' | 'directory' | 'lost' | 'other';
}

const LEADS_NOWHERE: ReadonlySet<string | undefined> = new Set(['ENOENT', 'ENOTDIR', 'ELOOP']);

/** Undefined if there is no such directory. */
export async function listDirectory(path: string): Promise<DirectoryEntry[] | undefined> {
  let entries: Dirent[];
  try {
    entries = await readdir(path, { withFileTypes: true });
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw storeFailure(error, 'list the directory', path);
  }
  const found: DirectoryEntry[] = [];
  for (const entry of entries) {
    const kind = entry.isSymbolicLink() ? await kindBehind(join(path, entry.name)) : kindOf(entry);
    found.push({ name: entry.name, kind });
  }
  return found;
}

function kindOf(entry: Pick<Dirent, 'isFile' | 'isDirectory'>): DirectoryEntry['kind'] {
  if (entry.isFile()) return 'file';
  return entry.isDirectory() ? 'directory' : 'other';
}

async function kindBehind(link: string): Promise<DirectoryEntry['kind']> {
  try {
    return kindOf(await stat(link));
  } catch (error) {
    if (LEADS_NOWHERE.has(systemCode(error))) return 'lost';
    throw storeFailure(error, 'follow the symbolic link', link);
  }
}
