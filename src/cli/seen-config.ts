// SPDX-License-Identifier: MIT
// The configuration of nightly jobs for commands that only look: they do without where there is none.

import { existsSync } from 'node:fs';
import { UsageError } from '../base/errors.js';
import type { NightlyConfig } from '../nightly/config.js';
import type { Datastore } from '../store/datastore.js';
import type { Context } from './context.js';
import type { ConfigFlags } from './job-config.js';
import { withStore } from './open-store.js';

/** As in job-config.ts, which brings YAML and all that checks it with it. */
const CONFIG_FILE = '/etc/vmar/vmar.yaml';

/**
 * What `--config-file` or VMAR_CONFIG names, else the host's own if there is one.
 * @throws UsageError for a wrong one, FailedError for one that was named and cannot be read
 */
export async function seenConfig(context: Context, flags: ConfigFlags): Promise<NightlyConfig | undefined> {
  const isNamed = flags.configFile !== undefined || context.configFile !== undefined;
  if (!isNamed && !existsSync(CONFIG_FILE)) return undefined;
  const { openConfig } = await import('./job-config.js');
  return await openConfig(context, flags);
}

/** Opens the datastore that was named, else the only one of the configuration. */
export async function withSeenStore<Result>(
  context: Context,
  flags: ConfigFlags,
  action: (store: Datastore, config: NightlyConfig | undefined) => Promise<Result>,
): Promise<Result> {
  const config = await seenConfig(context, flags);
  const only = config?.datastores.size === 1 ? [...config.datastores.values()][0] : undefined;
  if (context.datastoreDirectory === undefined && only === undefined && config !== undefined) {
    throw new UsageError('no-datastore', 'the configuration has several datastores, and none was named', {
      object: config.file,
      advice: 'Give --datastore DIR, or set VMAR_DATASTORE.',
    });
  }
  const datastoreDirectory = context.datastoreDirectory ?? only?.path;
  return await withStore({ ...context, datastoreDirectory }, async (store) => await action(store, config));
}
