// SPDX-License-Identifier: MIT
// The datastore that a command works on.

import { UsageError } from '../base/errors.js';
import { type Datastore, openDatastore } from '../store/datastore.js';
import { fsOfDatastore } from '../store/real-fs.js';
import { checkRoom, RoomyFs } from '../store/roomy-fs.js';
import type { Context } from './context.js';

export interface StoreRoom {
  /** Writing stops, with FailedError 'min-free', before less than so much is free. */
  readonly minFreeBytes?: number;
}

/** @throws UsageError if none was named, FailedError if it is none. */
export async function openStore(context: Context, room: StoreRoom = {}): Promise<Datastore> {
  const { datastoreDirectory } = context;
  if (datastoreDirectory === undefined) {
    throw new UsageError('no-datastore', 'no datastore was named', {
      advice: 'Give --datastore DIR, or set VMAR_DATASTORE.',
    });
  }
  return await openStoreAt(context, datastoreDirectory, room);
}

/** One that is not that of --datastore. */
export async function openStoreAt(
  { cacheDirectory, log }: Context,
  directory: string,
  { minFreeBytes = 0 }: StoreRoom = {},
): Promise<Datastore> {
  const plain = { cacheDir: cacheDirectory, log };
  if (minFreeBytes === 0) return await openDatastore(directory, plain);
  const fs = new RoomyFs(fsOfDatastore(directory), directory, minFreeBytes);
  const store = await openDatastore(directory, { ...plain, fs });
  checkRoom(directory, minFreeBytes);
  return store;
}

/** Opens the datastore for the action, and closes it after it. */
export async function withStore<Result>(
  context: Context,
  action: (store: Datastore) => Promise<Result>,
): Promise<Result> {
  const store = await openStore(context);
  try {
    return await action(store);
  } finally {
    await store.close();
  }
}
