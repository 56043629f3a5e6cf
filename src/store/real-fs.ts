// SPDX-License-Identifier: MIT
// StoreFs over the machine's own file systems.

import { constants, type Stats } from 'node:fs';
import * as nodeFs from 'node:fs/promises';
import { BufferedFile } from './buffered-file.js';
import { DirectFile } from './direct-file.js';
import { type FileOwner, giveAway, giveDirectoryAway, otherOwner } from './file-owner.js';
import { type CreateOptions, type StoreFile, type StoreFs, storeFailure, systemCode } from './fs.js';
import { superblockPath } from './layout.js';

const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;

export class RealFs implements StoreFs {
  readonly #owner: FileOwner | undefined;

  /** With an owner, what it makes is that one's. */
  constructor(owner?: FileOwner) {
    this.#owner = owner;
  }

  async createFile(path: string, options: CreateOptions = {}): Promise<StoreFile> {
    return attempt('create the file', path, async () => {
      const handle = await nodeFs.open(path, 'wx', FILE_MODE);
      try {
        await correctMode(FILE_MODE, handle.stat(), () => handle.chmod(FILE_MODE));
        if (this.#owner !== undefined) await giveAway(handle, this.#owner);
        const direct = options.direct === true ? await openDirect(path) : undefined;
        return direct === undefined ? new BufferedFile(path, handle) : new DirectFile(path, handle, direct);
      } catch (error) {
        await handle.close();
        await nodeFs.unlink(path).catch(() => undefined);
        throw error;
      }
    });
  }

  mkdir(path: string): Promise<void> {
    return attempt('create the directory', path, async () => {
      await nodeFs.mkdir(path, DIRECTORY_MODE);
      await correctMode(DIRECTORY_MODE, nodeFs.stat(path), () => nodeFs.chmod(path, DIRECTORY_MODE));
      if (this.#owner !== undefined) await giveDirectoryAway(path, this.#owner);
    });
  }

  rename(from: string, to: string): Promise<void> {
    return attempt(`rename ${from} to this`, to, () => nodeFs.rename(from, to));
  }

  link(existing: string, path: string): Promise<void> {
    return attempt(`link ${existing} to this`, path, () => nodeFs.link(existing, path));
  }

  unlink(path: string): Promise<void> {
    return attempt('remove the file', path, () => nodeFs.unlink(path));
  }

  rmdir(path: string): Promise<void> {
    return attempt('remove the directory', path, () => nodeFs.rmdir(path));
  }

  fsyncDirectory(path: string): Promise<void> {
    return attempt('make the directory durable', path, async () => {
      const handle = await nodeFs.open(path, constants.O_RDONLY | constants.O_DIRECTORY);
      try {
        await handle.sync();
      } finally {
        await handle.close();
      }
    });
  }
}

/** That of a datastore: what root makes in one of another's is that one's. */
export function fsOfDatastore(root: string): RealFs {
  return new RealFs(otherOwner(superblockPath(root)));
}

async function attempt<T>(doing: string, path: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    throw storeFailure(error, doing, path);
  }
}

/** A second descriptor past the page cache; undefined where the file system has no such thing. */
async function openDirect(path: string): Promise<nodeFs.FileHandle | undefined> {
  try {
    return await nodeFs.open(path, constants.O_WRONLY | constants.O_DIRECT);
  } catch (error) {
    if (systemCode(error) === 'EINVAL') return undefined;
    throw error;
  }
}

/** Gives back what the umask took. File systems that keep no modes (CIFS) may refuse; theirs are set at mounting. */
async function correctMode(mode: number, stats: Promise<Stats>, chmod: () => Promise<void>): Promise<void> {
  if (((await stats).mode & 0o777) === mode) return;
  await chmod().catch((error: unknown) => {
    if (systemCode(error) !== 'EPERM' && systemCode(error) !== 'ENOTSUP') throw error;
  });
}
