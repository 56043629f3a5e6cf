// SPDX-License-Identifier: MIT
// StoreFs over the machine's own file systems.

import { constants, type Stats } from 'node:fs';
import * as nodeFs from 'node:fs/promises';
import { BufferedFile } from './buffered-file.js';
import { DirectFile } from './direct-file.js';
import { type CreateOptions, type StoreFile, type StoreFs, storeFailure, systemCode } from './fs.js';

const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;

export class RealFs implements StoreFs {
  async createFile(path: string, options: CreateOptions = {}): Promise<StoreFile> {
    return attempt('create the file', path, async () => {
      const handle = await nodeFs.open(path, 'wx', FILE_MODE);
      try {
        await correctMode(FILE_MODE, handle.stat(), () => handle.chmod(FILE_MODE));
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
