// SPDX-License-Identifier: MIT
// vmar status

import { resolve } from 'node:path';
import { EXIT, type ExitStatus } from '../../base/errors.js';
import { isWell } from '../../nightly/guest-health.js';
import type { Context } from '../context.js';
import type { ConfigFlags } from '../job-config.js';
import { parseDuration } from '../parse-duration.js';
import { readHealth } from '../read-health.js';
import { withSeenStore } from '../seen-config.js';
import { statusDocument, statusText } from '../status-report.js';

export interface StatusFlags extends ConfigFlags {
  readonly maxAge?: string;
  readonly metrics?: string;
}

export async function run(context: Context, names: readonly string[], flags: StatusFlags): Promise<ExitStatus> {
  const mostAgeSeconds = flags.maxAge === undefined ? undefined : parseDuration(flags.maxAge, '--max-age');
  const limit = mostAgeSeconds === undefined ? {} : { mostAgeSeconds };
  return await withSeenStore(context, flags, async (store, config) => {
    const nowMillis = Date.now();
    const { guests } = await readHealth(store, { names, config, ...limit, nowMillis });
    if (flags.metrics !== undefined) {
      const { writeStatusMetrics } = await import('../metrics/status-metrics.js');
      await writeStatusMetrics(flags.metrics, resolve(store.root), guests);
    }
    const facts = { ...limit, hasConfig: config !== undefined, nowMillis };
    context.output.result(
      () => statusDocument(guests, facts),
      () => statusText(context.output, guests, facts),
    );
    for (const { path, error } of guests.flatMap(({ damaged }) => damaged)) {
      context.log.warn(`${path}: ${error.message}`);
    }
    if (guests.some(({ overdue }) => overdue !== undefined)) return EXIT.failed;
    return guests.every(isWell) ? EXIT.done : EXIT.damage;
  });
}
