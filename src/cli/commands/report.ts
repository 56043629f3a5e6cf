// SPDX-License-Identifier: MIT
// vmar report

import { resolve } from 'node:path';
import { EXIT, type ExitStatus } from '../../base/errors.js';
import { replaceFile } from '../../nightly/replace-file.js';
import type { Context } from '../context.js';
import type { ConfigFlags } from '../job-config.js';
import { parseCount } from '../parse-count.js';
import { parseDuration } from '../parse-duration.js';
import { Progress } from '../progress.js';
import { gatherReport } from '../report/gather.js';
import { page } from '../report/page.js';
import { isAllWell } from '../report/verdict.js';
import { withSeenStore } from '../seen-config.js';

export interface ReportFlags extends ConfigFlags {
  readonly html: string;
  readonly days?: string;
  readonly maxAge?: string;
}

const DAYS = 30;
const MOST_DAYS = 366;

export async function run(context: Context, _args: undefined, flags: ReportFlags): Promise<ExitStatus> {
  const days = flags.days === undefined ? DAYS : parseCount(flags.days, '--days', 1, MOST_DAYS);
  const mostAgeSeconds = flags.maxAge === undefined ? undefined : parseDuration(flags.maxAge, '--max-age');
  const stop = new AbortController();
  const progress = new Progress(context.output, 'counting');
  return await withSeenStore(context, flags, async (store, config) => {
    const wish = {
      ...{ days, config, signal: stop.signal },
      ...(mostAgeSeconds === undefined ? {} : { mostAgeSeconds }),
      onMore: (bytes: number) => progress.addTotal(bytes),
      onProgress: (bytes: number) => progress.add(bytes),
    };
    const data = await context.interrupts
      .during(
        () => stop.abort(),
        () => gatherReport(store, wish),
      )
      .finally(() => progress.end());
    await replaceFile(flags.html, page(data));
    const file = resolve(flags.html);
    context.output.summary(
      () => ({ file, ok: isAllWell(data) }),
      () => `wrote ${flags.html}`,
    );
    return EXIT.done;
  });
}
