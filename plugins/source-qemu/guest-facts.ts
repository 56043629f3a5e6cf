// SPDX-License-Identifier: MIT
// What a guest is besides its disks, as far as its QEMU tells: kept with the backup for whoever has to build it anew.
//
// It is the same text as long as the guest is the same, and it is never long.

import { FailedError } from '../../src/base/errors.js';
import type { DriveInfo, Monitor } from '../../src/plugin-api.js';

/** A .vma archive takes no larger configuration file. */
const MOST_BYTES = 60_000;

export const FACTS_NAME = 'qemu-guest.json';

/** Asks all at once: the monitor is not held for longer than needed. */
export async function guestFacts(monitor: Monitor): Promise<Uint8Array> {
  const [version, name, uuid, machine, kvm, memory, cpus, drives, pci, network, characters, tpm, iothreads] =
    await Promise.all([
      asked(monitor.execute('query-version', {})),
      asked(monitor.execute('query-name', {})),
      asked(monitor.execute('query-uuid', {})),
      asked(monitor.execute('qom-get', { path: '/machine', property: 'type' })),
      asked(monitor.execute('query-kvm', {})),
      asked(monitor.execute('query-memory-size-summary', {})),
      asked(monitor.execute('query-cpus-fast', {})),
      asked(monitor.execute('query-block', {})),
      asked(monitor.execute('query-pci', {})),
      asked(monitor.execute('query-rx-filter', {})),
      asked(monitor.execute('query-chardev', {})),
      asked(monitor.execute('query-tpm', {})),
      asked(monitor.execute('query-iothreads', {})),
    ]);
  const cpuPath = cpus?.[0]?.qomPath;
  const [model, types] = await Promise.all([
    cpuPath === undefined ? undefined : asked(monitor.execute('qom-get', { path: cpuPath, property: 'type' })),
    Promise.all((drives ?? []).map((drive) => deviceType(monitor, drive))),
  ]);
  const facts = {
    qemu: version,
    name: name?.name || undefined,
    uuid: uuid?.uuid,
    machine,
    accelerator: kvm === undefined ? undefined : kvm ? 'kvm' : 'tcg',
    memory,
    cpus: cpus === undefined ? undefined : { count: cpus.length, target: cpus[0]?.target, model },
    drives: drives?.map((drive, at) => describeDrive(drive, types[at])),
    tpm,
    iothreads,
    network,
    characterDevices: characters,
    pci,
  };
  return encode(facts);
}

/** What a QEMU does not know, or a storage daemon has not, is left out. */
async function asked<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof FailedError && /^qmp-(command-failed|bad-answer)$/.test(error.code)) return undefined;
    throw error;
  }
}

async function deviceType(monitor: Monitor, { qdev }: DriveInfo): Promise<string | undefined> {
  if (qdev === undefined) return undefined;
  const path = qdev.startsWith('/') ? qdev : `/machine/peripheral/${qdev}`;
  return await asked(monitor.execute('qom-get', { path, property: 'type' }));
}

function describeDrive({ device, qdev, removable, inserted }: DriveInfo, type: string | undefined) {
  const image =
    inserted === undefined
      ? undefined
      : {
          node: inserted.nodeName,
          driver: inserted.driver,
          file: inserted.fileName,
          sizeBytes: inserted.sizeBytes,
          readOnly: inserted.readOnly,
          cache: { direct: inserted.cacheDirect, noFlush: inserted.cacheNoFlush },
        };
  return { name: device || undefined, device: qdev, type, removable, image };
}

/** What is least missed goes first where there is too much. */
function encode(facts: Readonly<Record<string, unknown>>): Uint8Array {
  const kept = new Map(Object.entries(facts));
  const leftOut: string[] = [];
  for (;;) {
    const all = { ...Object.fromEntries(kept), ...(leftOut.length === 0 ? {} : { leftOut }) };
    const bytes = Buffer.from(`${JSON.stringify(all, undefined, 1)}\n`);
    if (bytes.byteLength <= MOST_BYTES || kept.size === 0) return bytes;
    const last = [...kept.keys()].at(-1)!;
    kept.delete(last);
    leftOut.push(last);
  }
}
