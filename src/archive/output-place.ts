// SPDX-License-Identifier: MIT
// Where an archive is written to: a file that gets its name when it is whole and durable, or a stream.

import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { FailedError } from '../base/errors.js';
import type { SinkOutput } from '../plugin-api.js';
import type { StoreFile, StoreFs } from '../store/fs.js';
import { giveName } from '../store/give-name.js';
import { RealFs } from '../store/real-fs.js';
import { StreamFile } from './stream-file.js';

export type ArchiveTarget =
  | { readonly kind: 'file'; readonly path: string; readonly overwrite: boolean }
  | { readonly kind: 'stream'; readonly stream: NodeJS.WritableStream };

export interface OutputPlace {
  readonly file: StoreFile;
  readonly name: string;
  /** Gives the finished file its name. */
  publish(): Promise<void>;
  remove(): Promise<void>;
}

export async function openOutputPlace(target: ArchiveTarget, fs: StoreFs): Promise<OutputPlace> {
  if (target.kind === 'stream') {
    const file = new StreamFile(target.stream);
    return { file, name: '-', publish: async () => {}, remove: async () => {} };
  }
  const { path } = target;
  const partial = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}.partial`);
  const file = await fs.createFile(partial, { direct: true });
  const remove = async (): Promise<void> => await fs.unlink(partial).catch(() => undefined);
  const publish = async (): Promise<void> => {
    if (target.overwrite) await fs.rename(partial, path);
    else await giveName(fs, partial, path);
    try {
      await fs.fsyncDirectory(dirname(path));
    } catch (error) {
      // An archive that was told to have failed must not stay, unless it is in the place of another, which is gone.
      if (!target.overwrite) await fs.unlink(path).catch(() => undefined);
      throw error;
    }
    if (!target.overwrite) await remove();
  };
  return { file, name: path, publish, remove };
}

/** @throws FailedError if the file exists and is not to be overwritten */
export function refuseExisting(target: ArchiveTarget): void {
  if (target.kind !== 'file' || target.overwrite || !existsSync(target.path)) return;
  throw new FailedError('exists', 'the file exists already', {
    object: target.path,
    advice: 'Choose another name, or remove it first.',
  });
}

/**
 * The same for sinks that know no more than that they write from front to back.
 * @throws FailedError if the file exists and is not to be overwritten, or cannot be made.
 */
export async function openOutput(target: ArchiveTarget, fs: StoreFs = new RealFs()): Promise<SinkOutput> {
  refuseExisting(target);
  const { file, name, publish, remove } = await openOutputPlace(target, fs);
  let writtenBytes = 0;
  return {
    name,
    async write(bytes) {
      await file.write([bytes], writtenBytes);
      writtenBytes += bytes.byteLength;
    },
    async finish() {
      await file.fsync();
      await file.close();
      await publish();
    },
    async abort() {
      await file.close().catch(() => undefined);
      await remove();
    },
  };
}
