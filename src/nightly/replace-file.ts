// SPDX-License-Identifier: MIT
// Files that others read at any moment: they see the old content or the new, whole.

import { randomBytes } from 'node:crypto';
import { open, realpath, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { storeFailure, systemCode } from '../store/fs.js';

/**
 * Puts a file in the place of what has its name, in one step, durably. Where the name is a symbolic link, the file that it
 * leads to is replaced. Pipes and devices are written to instead: a file in the place of /dev/null would break the host.
 * @param mode of the file, whatever the umask; without it, as the umask says
 * @throws FailedError; the old file is as it was then, and nothing is left beside it.
 */
export async function replaceFile(path: string, content: string, mode?: number): Promise<void> {
  let temporary: string | undefined;
  try {
    if (await isStream(path)) return await writeFile(path, content);
    const target = await followed(path);
    temporary = join(dirname(target), `.${basename(target)}.${randomBytes(6).toString('hex')}.partial`);
    const handle = await open(temporary, 'wx');
    try {
      if (mode !== undefined) await handle.chmod(mode);
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, target);
  } catch (error) {
    if (temporary !== undefined) await rm(temporary, { force: true }).catch(() => undefined);
    throw storeFailure(error, 'write the file', path);
  }
}

async function isStream(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return found !== undefined && !found.isFile() && !found.isDirectory();
}

async function followed(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return resolve(path);
    throw error;
  }
}
