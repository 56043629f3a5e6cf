// SPDX-License-Identifier: MIT
// vmar restore

import { availableParallelism } from 'node:os';
import { type RestoreSummary, restoreBackup } from '../../archive/restore.js';
import { EXIT, type ExitStatus } from '../../base/errors.js';
import { isNbdUri, type NbdDevice, openNbdDevice } from '../../nbd/client/nbd-client.js';
import { createExecutor } from '../../pipeline/executor.js';
import { type ConfigFile, ConfigFiles } from '../config-files.js';
import type { Context } from '../context.js';
import { counted, humanDuration, humanRate, humanSize } from '../human.js';
import { type OpenBackup, withBackups } from '../open-named-backup.js';
import { isForeignArchive } from '../parse-backup-name.js';
import { parseWorkers } from '../parse-count.js';
import { printable } from '../printable.js';
import { Progress } from '../progress.js';
import { parseRestore, planRestore, type RestoreFlags, type RestoreWish } from '../restore-wish.js';
import { secondsSinceStart } from '../seconds.js';
import { isStandardInput } from '../standard-input.js';
import { renderTable } from '../table.js';
import { TargetDirectory } from '../target-directory.js';

export type { RestoreFlags } from '../restore-wish.js';

export interface Restored extends RestoreSummary {
  readonly configs: readonly ConfigFile[];
  readonly seconds: number;
}

export async function run(context: Context, name: string, flags: RestoreFlags): Promise<ExitStatus> {
  const wish = parseRestore(flags);
  if (isStandardInput(name) || isForeignArchive(name)) {
    const { restoreForeign } = await import('../restore-foreign.js');
    const restored = await restoreForeign(context, name, wish);
    tell(context, { name }, restored);
    return EXIT.done;
  }
  const workers = parseWorkers(flags.workers).workers ?? availableParallelism();
  return await withBackups(context, [name], async ([backup]) => {
    const restored = await restore(context, backup!, wish, workers);
    tell(context, backup!, restored);
    return restored.damaged.length > 0 ? EXIT.damage : EXIT.done;
  });
}

/** All of the disks and configuration files or, unless files were to be written over, nothing. */
async function restore(context: Context, backup: OpenBackup, wish: RestoreWish, workers: number): Promise<Restored> {
  const { manifest } = backup;
  const plan = planRestore(manifest, wish);
  const executor = createExecutor({
    workers,
    hash: manifest.hash,
    level: 1,
    clusterSizeBytes: manifest.disks[0]?.clusterSizeBytes ?? 0,
    pools: [],
  });
  executor.warmUp();
  const directory = new TargetDirectory(wish.directory);
  const configs = new ConfigFiles(plan.configs, wish.overwrite);
  const progress = new Progress(context.output, 'restoring');
  const stop = new AbortController();
  const work = async (): Promise<RestoreSummary> => {
    await directory.make();
    await configs.check();
    await configs.prepare();
    const summary = await restoreBackup(backup, plan.disks, {
      executor,
      overwrite: wish.overwrite,
      targetIsZero: wish.targetIsZero,
      allowDamaged: wish.allowDamaged,
      openDevice: (place) => openTarget(context, place, stop.signal),
      signal: stop.signal,
      onStart: (bytes) => progress.addTotal(bytes),
      onProgress: (bytes) => progress.add(bytes),
      onNotice: (text) => context.log.info(text),
    });
    await configs.publish();
    return summary;
  };
  try {
    const summary = await context.interrupts.during(() => stop.abort(), work);
    return { ...summary, configs: plan.configs, seconds: secondsSinceStart() };
  } catch (error) {
    await configs.remove();
    await directory.removeIfMade();
    throw error;
  } finally {
    progress.end();
    await executor.close();
  }
}

/** Files and block devices are opened by the restore itself. */
export function openTarget({ log }: Context, place: string, signal: AbortSignal): Promise<NbdDevice> | undefined {
  return isNbdUri(place) ? openNbdDevice(place, { readOnly: false, log, signal }) : undefined;
}

function tell({ output }: Context, backup: Pick<OpenBackup, 'name'>, restored: Restored): void {
  output.summary(
    () => asDocument(backup, restored),
    () => asText(output, backup, restored),
  );
  if (restored.damaged.length === 0) return;
  for (const { disk, offsetBytes, lengthBytes, problem } of restored.damaged.slice(0, SHOWN)) {
    output.error(`damaged: ${disk} at byte ${offsetBytes}, ${lengthBytes} bytes: ${printable(problem)}; zeros instead`);
  }
  const rest = restored.damaged.slice(SHOWN);
  if (rest.length === 0) return;
  const bytes = humanSize(rest.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0));
  output.error(`damaged: ${counted(rest.length, 'more range')}, ${bytes} in all; zeros instead (--json lists all)`);
}

/** Ranges that are told one by one. */
const SHOWN = 20;

function asDocument(backup: Pick<OpenBackup, 'name'>, { disks, damaged, configs, seconds }: Restored) {
  return {
    backup: backup.name,
    disks: disks.map(({ name, target, sizeBytes, writtenBytes, zeroBytes }) => ({
      name,
      target,
      size: sizeBytes,
      written: writtenBytes,
      zero: zeroBytes,
    })),
    ...(configs.length === 0 ? {} : { configs: configs.map(({ name }) => name) }),
    damaged: damaged.map(({ disk, offsetBytes, lengthBytes }) => ({ disk, offset: offsetBytes, length: lengthBytes })),
    seconds,
  };
}

function asText(
  output: Context['output'],
  backup: Pick<OpenBackup, 'name'>,
  { disks, configs, damaged, seconds }: Restored,
): string {
  const rows = disks.map(({ name, target, sizeBytes, writtenBytes, zeroBytes }) => [
    name,
    printable(target),
    ...[sizeBytes, writtenBytes, zeroBytes].map(humanSize),
  ]);
  const numbers = ['size', 'written', 'zero'].map((title) => ({ title, align: 'right' as const }));
  const files = configs.map(({ target }) => `configuration: ${printable(target)}`);
  const bytes = disks.reduce((total, disk) => total + disk.sizeBytes, 0);
  const state =
    damaged.length > 0 ? output.paint('red', `restored with ${counted(damaged.length, 'damaged range')}`) : 'restored';
  return [
    renderTable(output.paint, [{ title: 'disk' }, { title: 'target' }, ...numbers], rows),
    ...files,
    `${printable(backup.name)} ${state} in ${humanDuration(seconds)} (${humanRate(bytes, seconds)})`,
  ].join('\n');
}
