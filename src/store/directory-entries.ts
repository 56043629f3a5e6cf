// SPDX-License-Identifier: MIT
// What lies in a directory of a datastore. Symbolic links are followed: who moved a part of a datastore to another disk and
// left a link there has not lost it, and gc must not take it for gone.

import type { Dirent } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { DamageError, VmarError } from '../base/errors.js';
import { storeFailure, systemCode } from './fs.js';

export interface DirectoryEntry {
  readonly name: string;
  /** 'lost': a link that leads nowhere, as when a disk is not mounted. 'other': a FIFO, a socket, a device. */
  readonly kind: 'file' | 'directory' | 'lost' | 'other';
}

const LEADS_NOWHERE: ReadonlySet<string | undefined> = new Set(['ENOENT', 'ENOTDIR', 'ELOOP']);

/** Codes of a directory that is there, and that nobody can look into, for now. */
const SHUT: ReadonlySet<string | undefined> = new Set(['EIO', 'EACCES', 'EPERM', 'EBADMSG', 'EUCLEAN', 'ESTALE']);

/** Whether an error says that of a directory, and nothing else is the matter. */
export function isShut(error: unknown): error is VmarError {
  return error instanceof VmarError && SHUT.has(systemCode(error));
}

/** Undefined if there is no such directory. @throws DamageError if it cannot be read (EIO), FailedError */
export async function listDirectory(path: string): Promise<DirectoryEntry[] | undefined> {
  let entries: Dirent[];
  try {
    entries = await readdir(path, { withFileTypes: true });
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw listFailure(error, path);
  }
  const found: DirectoryEntry[] = [];
  for (const entry of entries) {
    const kind = entry.isSymbolicLink() ? await kindBehind(join(path, entry.name)) : kindOf(entry);
    found.push({ name: entry.name, kind });
  }
  return found;
}

function listFailure(error: unknown, path: string): VmarError {
  const failure = storeFailure(error, 'list the directory', path);
  if (systemCode(error) !== 'EIO') return failure;
  return new DamageError('read-error', failure.message, {
    object: path,
    offsetBytes: 0,
    advice: 'Check the disk (`dmesg`, smartctl).',
    cause: error,
  });
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
