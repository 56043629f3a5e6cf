// SPDX-License-Identifier: MIT
// State of a guest that is in none of its disks: firmware variables, and what a TPM keeps.

import { FailedError } from '../../src/base/errors.js';
import type { DriveInfo, Monitor, OutsideState } from '../../src/plugin-api.js';

/** Asks nothing of a storage daemon, which has no guest. */
export async function findOutside(monitor: Monitor): Promise<readonly OutsideState[]> {
  return [...(await firmwareVariables(monitor)), ...(await tpmStates(monitor))];
}

/** "/machine/system.flash1" of PCs, "/machine/virt.flash1" of ARM boards. */
export function isFirmware({ qdev }: DriveInfo): boolean {
  return /\.flash\d+$/.test(qdev ?? '');
}

/** A flash that the guest can write to. */
async function firmwareVariables(monitor: Monitor): Promise<OutsideState[]> {
  const drives = await known(monitor.execute('query-block', {}));
  return (drives ?? []).flatMap((drive) => {
    const { device, inserted, qdev } = drive;
    if (inserted === undefined || inserted.readOnly || !isFirmware(drive)) return [];
    const name = device || qdev?.replace(/^.*\//, '') || inserted.nodeName;
    // QEMU describes in JSON what has no plain name.
    const isPath = !inserted.fileName.startsWith('json:');
    return [{ kind: 'firmware-variables' as const, name, ...(isPath ? { path: inserted.fileName } : {}) }];
  });
}

async function tpmStates(monitor: Monitor): Promise<OutsideState[]> {
  const tpms = await known(monitor.execute('query-tpm', {}));
  return (tpms ?? []).map(({ id, type }) => ({ kind: type === 'emulator' ? 'tpm' : 'host-tpm', name: id }));
}

async function known<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    // To know of it is worth no backup.
    if (error instanceof FailedError && /^qmp-(command-failed|bad-answer)$/.test(error.code)) return undefined;
    throw error;
  }
}
