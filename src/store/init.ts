// SPDX-License-Identifier: MIT
// Makes a datastore: all of it or nothing. The superblock comes last; before it there is no datastore.

import { randomBytes } from 'node:crypto';
import { open, readdir } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { HashName } from '../../formats/vmar/hash.js';
import { encodeSuperblock } from '../../formats/vmar/superblock.js';
import { FailedError } from '../base/errors.js';
import { flock } from '../base/syscalls.js';
import { type StoreFs, storeFailure, systemCode } from './fs.js';
import { DIRECTORIES, directoryPath, SUPERBLOCK_NAME, superblockPath } from './layout.js';
import { checkPlace, TRIAL_NAME } from './place-check.js';
import { RealFs } from './real-fs.js';
import { writeDurably } from './small-file.js';

export interface InitOptions {
  readonly clusterSizeBytes: number;
  readonly hash: HashName;
  readonly mapFanout: number;
  readonly timeSeconds: number;
  /** Name and version of the program. */
  readonly createdBy: string;
}

/** The superblock until it has its name; left only where init was cut off. */
const UNFINISHED = `.${SUPERBLOCK_NAME}.new`;
/** What an empty file system has at its root. */
const LOST_AND_FOUND = 'lost+found';

/**
 * Makes a datastore in `root`, a directory that is empty or does not exist in one that does. Once it resolves, the
 * datastore is durable; if it rejects, nothing of it is left. Where an earlier init was cut off, this one completes it.
 */
export async function initDatastore(root: string, options: InitOptions, fs: StoreFs = new RealFs()): Promise<void> {
  const made: (() => Promise<void>)[] = [];
  try {
    const isMade = await makeRoot(fs, root);
    await withDirectoryLock(root, async () => {
      // Not before: who has the lock makes a datastore of the directory that we have made.
      if (isMade) made.push(() => fs.rmdir(root));
      if (isMade) await fs.fsyncDirectory(dirname(resolve(root)));
      await checkEmpty(root);
      made.push(() => fs.unlink(join(root, TRIAL_NAME)));
      await checkPlace(fs, root);
      await makeTree(fs, root, options, made);
    });
  } catch (error) {
    for (const undo of made.reverse()) await undo().catch(() => undefined);
    throw error;
  }
}

/** True if it was not there. */
async function makeRoot(fs: StoreFs, root: string): Promise<boolean> {
  try {
    await fs.mkdir(root);
    return true;
  } catch (error) {
    const code = systemCode(error);
    if (code === 'EEXIST') return false;
    if (code !== 'ENOENT' && code !== 'ENOTDIR') throw error;
    throw new FailedError('no-such-directory', 'the directory that it is to lie in does not exist', {
      object: dirname(resolve(root)),
      advice: 'Check that it is mounted, or make it.',
      cause: error,
    });
  }
}

/** Two inits of one directory exclude each other; the lock goes with the process. */
async function withDirectoryLock(root: string, action: () => Promise<void>): Promise<void> {
  const handle = await open(root, 'r').catch((error: unknown) => {
    throw storeFailure(error, 'open the directory', root);
  });
  try {
    if (!(await handle.stat()).isDirectory()) {
      throw new FailedError('not-a-directory', 'this is not a directory', { object: root });
    }
    if (!tryFlock(handle.fd)) throw alreadyThere(root, 'another `vmar init` is at work here');
    await action();
  } finally {
    await handle.close();
  }
}

/** File systems that cannot lock a directory (NFS) go without. */
function tryFlock(fd: number): boolean {
  try {
    return flock(fd, 'exclusive', { wait: false });
  } catch {
    return true;
  }
}

function alreadyThere(root: string, message: string): FailedError {
  return new FailedError('not-empty', message, { object: root, advice: 'Choose an empty directory, or a new one.' });
}

/** What a cut off init left counts as nothing: empty directories of the tree, and a superblock without its name. */
async function checkEmpty(root: string): Promise<void> {
  const ours: ReadonlySet<string> = new Set(DIRECTORIES);
  for (const name of await readdir(root)) {
    if (name === SUPERBLOCK_NAME) {
      throw new FailedError('exists', 'there is a datastore already', {
        object: root,
        advice: 'Choose another directory.',
      });
    }
    if (name === LOST_AND_FOUND || name === UNFINISHED || name === TRIAL_NAME) continue;
    if (!ours.has(name) || (await namesIn(join(root, name))).length > 0) {
      throw alreadyThere(root, 'the directory is not empty');
    }
  }
}

async function namesIn(path: string): Promise<string[]> {
  return await readdir(path).catch((error: unknown) => {
    if (systemCode(error) === 'ENOTDIR') return ['a file'];
    throw storeFailure(error, 'list the directory', path);
  });
}

async function makeTree(fs: StoreFs, root: string, options: InitOptions, made: (() => Promise<void>)[]): Promise<void> {
  for (const name of DIRECTORIES) {
    const path = directoryPath(root, name);
    if (await makeIfMissing(fs, path)) made.push(() => fs.rmdir(path));
    await fs.fsyncDirectory(path);
  }
  await fs.fsyncDirectory(root);
  const unfinished = join(root, UNFINISHED);
  await fs.unlink(unfinished).catch(() => undefined);
  await writeDurably(fs, unfinished, encodeSuperblock(newSuperblock(options)));
  made.push(() => fs.unlink(unfinished));
  await fs.rename(unfinished, superblockPath(root));
  made.push(() => fs.unlink(superblockPath(root)));
  await fs.fsyncDirectory(root);
}

async function makeIfMissing(fs: StoreFs, path: string): Promise<boolean> {
  try {
    await fs.mkdir(path);
    return true;
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return false;
    throw error;
  }
}

function newSuperblock(options: InitOptions) {
  return {
    storeUuid: randomBytes(16),
    clusterSizeBytes: options.clusterSizeBytes,
    hash: options.hash,
    mapFanout: options.mapFanout,
    createdSeconds: options.timeSeconds,
    createdBy: options.createdBy,
  };
}
