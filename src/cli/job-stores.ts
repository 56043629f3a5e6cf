// SPDX-License-Identifier: MIT
// The datastores whose histories of jobs a command looks at: the one that was named, else those of the configuration.

import { VmarError } from '../base/errors.js';
import type { NightlyConfig } from '../nightly/config.js';
import { readHistory, type SeenReport } from '../nightly/history.js';
import { openJobStore } from '../nightly/job-store.js';
import { openDatastore } from '../store/datastore.js';
import type { Context } from './context.js';

export interface Histories {
  /** The newest first. */
  readonly reports: readonly SeenReport[];
  /** Some could not be read; said. */
  readonly isPartial: boolean;
}

/** Reads at most `most` reports of jobs that fit from each datastore. */
export async function readHistories(
  context: Context,
  config: NightlyConfig | undefined,
  fits: (report: SeenReport) => boolean,
  most: number,
): Promise<Histories> {
  const { datastoreDirectory, cacheDirectory: cacheDir, log } = context;
  const places =
    datastoreDirectory === undefined
      ? [...(config?.datastores.values() ?? [])]
      : [{ name: '', path: datastoreDirectory, minFreeBytes: 0 }];
  const reports: SeenReport[] = [];
  let isPartial = false;
  const warn = (object: string, error: VmarError): void => {
    isPartial = true;
    log.warn(`${object}: ${error.message}`);
  };
  for (const place of places) {
    try {
      const store = await openJobStore(place, (path) => openDatastore(path, { cacheDir, log }));
      let count = 0;
      for await (const report of readHistory(store, ({ path, error }) => warn(path, error))) {
        if (count >= most) break;
        if (!fits(report)) continue;
        count++;
        reports.push(report);
      }
      await store.close();
    } catch (error) {
      // One that was named on the command line is what the command is about.
      if (!(error instanceof VmarError) || datastoreDirectory !== undefined) throw error;
      warn(place.path, error);
    }
  }
  return { reports: reports.sort((a, b) => b.startedMillis - a.startedMillis).slice(0, most), isPartial };
}
