// SPDX-License-Identifier: MIT
// vmar import

import { importFile } from '../../archive/import/import-file.js';
import { ImportPlace } from '../../archive/import/import-place.js';
import { createMachine } from '../../archive/machine.js';
import { type ExitStatus, InterruptedError } from '../../base/errors.js';
import type { Context } from '../context.js';
import { counted } from '../human.js';
import { type FailedFile, type ImportedFile, tellImport } from '../import-report.js';
import { type ImportFlags, type ImportWish, parseImport } from '../import-wish.js';
import { withStore } from '../open-store.js';
import { Progress } from '../progress.js';
import { describeError } from '../render-error.js';
import { secondsSinceStart } from '../seconds.js';

export type { ImportFlags } from '../import-wish.js';

export async function run(context: Context, words: readonly string[], flags: ImportFlags): Promise<ExitStatus> {
  const wish = parseImport(words, flags);
  tellContainers(context, wish);
  for (const path of wish.notFiles) context.log.warn(`${path} left out: it is not a file`);
  return await withStore(context, async (store) => {
    const { hash, clusterSizeBytes } = store.superblock;
    const { level, waitSeconds, workers } = wish;
    const machine = createMachine({ hash, clusterSizeBytes, level, ...(workers === undefined ? {} : { workers }) });
    machine.executor.warmUp();
    const stop = new AbortController();
    const place = new ImportPlace({ store, machine, waitSeconds, log: context.log, signal: stop.signal });
    try {
      return await context.interrupts.during(
        () => stop.abort(),
        () => importAll(context, wish, place, stop.signal),
      );
    } finally {
      await machine.close();
    }
  });
}

function tellContainers({ log }: Context, { containers }: ImportWish): void {
  if (containers.length === 0) return;
  const [first] = containers;
  const what = counted(containers.length, 'archive');
  log.warn(
    `${what} of containers (${first}${containers.length > 1 ? ', …' : ''}) left out: vmar keeps virtual machines`,
  );
}

/** One file after another; one that fails stops only itself, unless it is the only one. */
async function importAll(
  context: Context,
  wish: ImportWish,
  place: ImportPlace,
  signal: AbortSignal,
): Promise<ExitStatus> {
  const progress = new Progress(context.output, 'importing');
  progress.addTotal(wish.totalBytes);
  const { guest, timeSeconds, sources } = wish;
  const options = {
    ...(guest === undefined ? {} : { guest }),
    ...(timeSeconds === undefined ? {} : { timeSeconds }),
    temporaryDirectory: context.temporaryDirectory,
    onRead: (bytes: number) => progress.add(bytes),
  };
  const imported: ImportedFile[] = [];
  const failed: FailedFile[] = [];
  try {
    for (const source of sources) {
      const file = typeof source === 'string' ? source : source.name;
      try {
        imported.push({ file, ...(await importFile(source, place, options)) });
      } catch (error) {
        if (signal.aborted) throw new InterruptedError();
        if (sources.length === 1) throw error;
        failed.push({ file, error: describeError(error) });
      }
    }
  } finally {
    progress.end();
  }
  return tellImport(context, { imported, failed, seconds: secondsSinceStart() });
}
