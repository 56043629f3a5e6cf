// SPDX-License-Identifier: MIT
// A guest's configuration files: read for a backup, written by a restore.

import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { lstat, open, rename, rm, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { isConfigName } from '../../formats/vmar/names.js';
import { FailedError, systemErrorCode, UsageError } from '../base/errors.js';
import { systemCode } from '../store/fs.js';
import { giveName } from '../store/give-name.js';
import { RealFs } from '../store/real-fs.js';
import { refuseDuplicates } from './parse-pair.js';
import { syncDirectory } from './target-directory.js';

export interface ConfigFile {
  readonly name: string;
  readonly target: string;
  readonly content: Uint8Array;
}

/** Configurations are a few KiB; whoever gives a disk image here is told so. */
const MOST_CONFIG_BYTES = 1 << 20;

/** Reads them whole; they are kept under their base names. */
export async function readConfigs(paths: readonly string[]): Promise<{ name: string; content: Uint8Array }[]> {
  refuseDuplicates(paths.map(configName), '--config', 'file name');
  const configs: { name: string; content: Uint8Array }[] = [];
  for (const path of paths) configs.push({ name: configName(path), content: await readConfig(path) });
  return configs;
}

function configName(path: string): string {
  const name = basename(path);
  if (isConfigName(name)) return name;
  throw new UsageError('bad-config-name', 'a configuration file of this name cannot be kept', {
    object: `--config ${path}`,
    expected: 'a name of at most 255 bytes without control characters',
  });
}

async function readConfig(path: string): Promise<Uint8Array> {
  try {
    // Without O_NONBLOCK a FIFO would wait here for a writer.
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      return await readWhole(file, path);
    } finally {
      await file.close();
    }
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === undefined || error instanceof FailedError) throw error;
    throw new FailedError('config-unreadable', `the configuration file cannot be read: ${problem(error)}`, {
      object: path,
      cause: error,
    });
  }
}

async function readWhole(file: Awaited<ReturnType<typeof open>>, path: string): Promise<Uint8Array> {
  const stat = await file.stat();
  if (!stat.isFile())
    throw new FailedError('not-a-file', 'a configuration file must be a regular file', { object: path });
  const room = Buffer.alloc(MOST_CONFIG_BYTES + 1);
  let length = 0;
  for (let count = -1; count !== 0 && length < room.length; length += count) {
    ({ bytesRead: count } = await file.read(room, length, room.length - length, length));
  }
  if (length <= MOST_CONFIG_BYTES) return Uint8Array.prototype.slice.call(room, 0, length);
  throw new FailedError('config-too-large', 'the configuration file is too large', {
    object: path,
    expected: `at most ${MOST_CONFIG_BYTES} bytes`,
    advice: 'Disks are given with --disk NAME=IMAGE.',
  });
}

const FILES = new RealFs();

/** The configuration files of a restore. */
export class ConfigFiles {
  readonly #files: readonly ConfigFile[];
  readonly #overwrite: boolean;
  /** By target, while they wait for their names. */
  readonly #temporary = new Map<string, string>();
  readonly #made: string[] = [];

  readonly #whenThere: string;

  /** @param whenThere what to do about one that is there already */
  constructor(
    files: readonly ConfigFile[],
    overwrite: boolean,
    whenThere = 'Restore to another place, or give --overwrite.',
  ) {
    this.#files = files;
    this.#overwrite = overwrite;
    this.#whenThere = whenThere;
  }

  /** Rejects if one is there already and is not to be written over. */
  async check(): Promise<void> {
    if (this.#overwrite) return;
    for (const { target } of this.#files) if (await isThere(target)) throw this.#exists(target);
  }

  /** Writes them under temporary names, beside where they go. */
  async prepare(): Promise<void> {
    for (const { target, content } of this.#files) {
      const temporary = join(dirname(target), `.vmar-${randomBytes(8).toString('hex')}.partial`);
      await this.#writing(target, async () => {
        const file = await open(temporary, 'wx', 0o600);
        this.#temporary.set(target, temporary);
        try {
          await file.writeFile(content);
          await file.sync();
        } finally {
          await file.close();
        }
      });
    }
  }

  /** Gives them their names. Once it resolves, they are there and durable. */
  async publish(): Promise<void> {
    for (const [target, temporary] of this.#temporary) {
      await this.#writing(target, async () => {
        if (this.#overwrite) await rename(temporary, target);
        else {
          await giveName(FILES, temporary, target);
          this.#made.push(target);
          await rm(temporary, { force: true });
        }
      });
    }
    this.#temporary.clear();
    const [first] = this.#files;
    if (first !== undefined) await this.#writing(first.target, () => syncDirectory(dirname(first.target)));
  }

  /** Removes what it made, but not what it wrote over. */
  async remove(): Promise<void> {
    for (const path of [...this.#temporary.values(), ...this.#made]) await unlink(path).catch(() => undefined);
  }

  async #writing(target: string, action: () => Promise<void>): Promise<void> {
    try {
      await action();
    } catch (error) {
      if (systemCode(error) === 'EEXIST') throw this.#exists(target);
      throw new FailedError('write-failed', `the configuration file cannot be written: ${problem(error)}`, {
        object: target,
        cause: error,
      });
    }
  }

  #exists(path: string): FailedError {
    return new FailedError('exists', 'the file exists already', { object: path, advice: this.#whenThere });
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return false;
    throw error;
  }
}

function problem(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
