// SPDX-License-Identifier: MIT
// A restore whose process was killed after its guest was moved, or in the middle of that, is gone on with: what was moved
// is looked for in the guest, and what the switch left there is taken away.

import type { Clock } from '../../base/clock.js';
import { FailedError, VmarError } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import { openFileDevice } from '../../block/file-device.js';
import { NbdServer } from '../../nbd/server/nbd-server.js';
import { inTime } from '../../qmp/qmp-client.js';
import { StatePath } from '../state-place.js';
import { clearUp, isMoved, letRun } from './clear-up.js';
import { type GuestView, lookAtGuest } from './guest-view.js';
import { MovedTarget } from './moved-target.js';
import type { SwitchHost } from './switch-over.js';

/** A disk of a restore that was begun before. */
export interface BegunDisk {
  readonly name: string;
  /** Absolute. */
  readonly targetPath: string;
  /** Of a target that holds all. Undefined: there is none, as when it was removed already. */
  readonly statePath: string | undefined;
}

export interface FinishOptions {
  readonly socketPath: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/** A QEMU that waits for the dead export answers nothing until there is one again: the guest must not wait for that. */
const ASK_MILLIS = 5000;

/** Which of them the guest uses by itself. None where the guest cannot be asked. Changes nothing. */
export async function findMoved(
  host: SwitchHost,
  disks: readonly BegunDisk[],
  { log, signal }: FinishOptions,
): Promise<BegunDisk[]> {
  try {
    const view = await askOnce(host, signal);
    const moved: BegunDisk[] = [];
    for (const disk of disks) if (await isMoved(view, disk.targetPath)) moved.push(disk);
    // That a guest uses a target says of a restore only where one was made there.
    return moved.some(({ statePath }) => statePath !== undefined) ? moved : [];
  } catch (error) {
    if (!(error instanceof VmarError)) throw error;
    log.debug(`whether the guest was moved before cannot be told: ${error.message}`);
    return [];
  }
}

/** It greets at once; already what follows that it may not answer. */
async function askOnce(host: SwitchHost, signal: AbortSignal): Promise<GuestView> {
  const over = new AbortController();
  const ask = async (): Promise<GuestView> => {
    const monitor = await host.openMonitor(over.signal);
    over.signal.addEventListener('abort', () => void monitor.close());
    return await lookAtGuest(monitor);
  };
  try {
    return await inTime(ask(), ASK_MILLIS, signal, () => {
      const message = `QEMU did not answer within ${ASK_MILLIS} ms`;
      return new FailedError('qmp-timeout', message, { object: host.address.kind });
    });
  } finally {
    over.abort();
  }
}

/**
 * Takes away what is left of the switch: nodes in the guest, then state files. The exports are served meanwhile: QEMU
 * waits for an answer when it drops a node that was connected, and the guest with it.
 */
export async function finishMoved(
  host: SwitchHost,
  disks: readonly BegunDisk[],
  options: FinishOptions,
): Promise<void> {
  const { socketPath, clock, log, signal } = options;
  const targets: MovedTarget[] = [];
  const states = [];
  try {
    for (const { statePath } of disks) {
      const place = statePath === undefined ? undefined : new StatePath(statePath);
      states.push({ place, file: await place?.open() });
    }
    for (const { targetPath } of disks) {
      targets.push(new MovedTarget(await openFileDevice(targetPath, { readOnly: true, forceShare: true })));
    }
    const exports = disks.map(({ name }, at) => ({ name, device: need(targets[at]), readOnly: false }));
    const server = new NbdServer({ exports, clock, log });
    await server.listenUnix(socketPath);
    try {
      await clearGuest(host, disks, socketPath, signal);
    } finally {
      await server.close({ graceMillis: 0 });
    }
    for (const { place } of states) await place?.remove();
  } finally {
    for (const { file } of states) await file?.close();
    for (const target of targets) await target.close();
  }
}

async function clearGuest(
  host: SwitchHost,
  disks: readonly BegunDisk[],
  socketPath: string,
  signal: AbortSignal,
): Promise<void> {
  const monitor = await host.openMonitor(signal);
  try {
    await letRun(monitor);
    const exportNames = (name: string) => (disks.length === 1 ? [name, ''] : [name]);
    await clearUp(
      monitor,
      disks.map(({ name, targetPath }) => ({
        wish: { disk: name, socketPath, exportNames: exportNames(name) },
        targetPath,
      })),
    );
  } finally {
    await monitor.close();
  }
}

function need<T>(value: T | undefined): T {
  if (value === undefined) throw new FailedError('not-moved', 'a target went away');
  return value;
}
