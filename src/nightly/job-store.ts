// SPDX-License-Identifier: MIT
// The datastore of a job: opened only where it is what the configuration means. Nothing is ever made in its place.

import { statfs } from 'node:fs/promises';
import { toHex } from '../base/bytes.js';
import { FailedError } from '../base/errors.js';
import { humanSize } from '../base/quantities.js';
import type { Datastore } from '../store/datastore.js';
import type { DatastoreConfig } from './config.js';

/** @throws FailedError if none lies there, or another. */
export async function openJobStore(
  { path, uuid }: DatastoreConfig,
  open: (path: string) => Promise<Datastore>,
): Promise<Datastore> {
  const store = await open(path);
  const found = toHex(store.superblock.storeUuid);
  if (uuid === undefined || uuid === found) return store;
  await store.close();
  throw new FailedError('wrong-datastore', 'another datastore lies in the place of this one', {
    ...{ object: path, expected: uuid, found },
    advice: 'Check what is mounted there.',
  });
}

/** @throws FailedError 'min-free' if less than so much is free. */
export async function checkRoom(path: string, minFreeBytes: number): Promise<void> {
  if (minFreeBytes === 0) return;
  const { bavail, bsize } = await statfs(path);
  const freeBytes = bavail * bsize;
  if (freeBytes >= minFreeBytes) return;
  throw new FailedError('min-free', 'less is free than must stay free', {
    ...{ object: path, expected: `at least ${humanSize(minFreeBytes)}`, found: humanSize(freeBytes) },
    advice: 'Make room: `vmar prune`, `vmar gc`, or other files; or set min-free lower.',
  });
}
