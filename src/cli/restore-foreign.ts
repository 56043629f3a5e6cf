// SPDX-License-Identifier: MIT
// A .vma file of Proxmox, or what comes through standard input, restored as it is.

import { statSync } from 'node:fs';
import { distinctConfigs } from '../archive/import/import-vma.js';
import { openBytes } from '../archive/import/open-bytes.js';
import { restoreVma } from '../archive/import/restore-vma.js';
import { VmaInput } from '../archive/import/vma-input.js';
import { openTarget, type Restored } from './commands/restore.js';
import { ConfigFiles } from './config-files.js';
import type { Context } from './context.js';
import { Progress } from './progress.js';
import { planRestore, type RestorePlan, type RestoreWish } from './restore-wish.js';
import { secondsSinceStart } from './seconds.js';
import { isStandardInput, standardInput } from './standard-input.js';
import { TargetDirectory } from './target-directory.js';

/** All of the disks and configuration files or, unless files were to be written over, nothing. */
export async function restoreForeign(context: Context, path: string, wish: RestoreWish): Promise<Restored> {
  const progress = new Progress(context.output, 'restoring');
  const stop = new AbortController();
  try {
    const isStream = isStandardInput(path);
    const source = isStream ? standardInput() : path;
    const stream = await openBytes(source, { onRead: (bytes) => progress.add(bytes), signal: stop.signal });
    if (!isStream) progress.addTotal(statSync(path).size);
    try {
      const input = await VmaInput.open(stream);
      const { devices, configs } = input.header;
      const plan = planRestore({ disks: devices, configs: distinctConfigs(configs) }, wish);
      return await context.interrupts.during(
        () => stop.abort(),
        () => restorePlanned(context, input, plan, wish, stop.signal),
      );
    } finally {
      await stream.close();
    }
  } finally {
    progress.end();
  }
}

async function restorePlanned(
  context: Context,
  input: VmaInput,
  plan: RestorePlan,
  wish: RestoreWish,
  signal: AbortSignal,
): Promise<Restored> {
  const directory = new TargetDirectory(wish.directory);
  const configs = new ConfigFiles(plan.configs, wish.overwrite);
  try {
    await directory.make();
    await configs.check();
    await configs.prepare();
    const { overwrite, targetIsZero } = wish;
    const openDevice = (place: string) => openTarget(context, place, signal);
    const disks = await restoreVma(input, plan.disks, { overwrite, targetIsZero, openDevice, signal });
    await configs.publish();
    return { disks, damaged: [], configs: plan.configs, seconds: secondsSinceStart() };
  } catch (error) {
    await configs.remove();
    await directory.removeIfMade();
    throw error;
  }
}
