// SPDX-License-Identifier: MIT
// The datastore that a command works on.

import { UsageError } from '../base/errors.js';
import { type Datastore, openDatastore } from '../store/datastore.js';
import type { Context } from './context.js';

/** @throws UsageError if none was named, FailedError if it is none. */
export async function openStore(context: Context): Promise<Datastore> {
  const { datastoreDirectory, cacheDirectory, log } = context;
  if (datastoreDirectory === undefined) {
    throw new UsageError('no-datastore', 'no datastore was named', {
      advice: 'Give --datastore DIR, or set VMAR_DATASTORE.',
    });
  }
  return await openDatastore(datastoreDirectory, { cacheDir: cacheDirectory, log });
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
