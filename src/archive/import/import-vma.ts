// SPDX-License-Identifier: MIT
// A .vma file becomes a backup.

import { isName, isTime } from '../../../formats/vmar/names.js';
import { UsageError } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import type { BackupDescription, DiskDescription, DumpResult } from '../../plugin-api.js';
import type { GuestRef } from '../../store/backup-id.js';
import type { ArchiveSink } from '../archive-sink.js';
import type { Companions } from './companions.js';
import type { ImportPlace, ImportResult } from './import-place.js';
import { SmallToSink } from './small-to-sink.js';
import { isVmstate, type VmaDevice, type VmaHeader, type VmaInput } from './vma-input.js';
import { parseVzdumpName } from './vzdump-name.js';

export interface ImportWish {
  /** In place of what the file says. */
  readonly guest?: Pick<GuestRef, 'namespace' | 'guestId'>;
  readonly timeSeconds?: number;
}

const MAIN_CONFIG = 'qemu-server.conf';

/**
 * What is imported, from the file's name, its header and what lies beside it.
 * @throws UsageError if nothing tells the guest or a time
 */
export function describeVma(
  file: string,
  header: VmaHeader,
  companions: Companions,
  wish: ImportWish,
  log: Log,
): BackupDescription {
  const named = parseVzdumpName(file);
  const guestId = wish.guest?.guestId ?? named?.guestId;
  if (guestId === undefined) {
    throw new UsageError('guest-unknown', "the file's name does not tell the guest", {
      object: file,
      advice: 'Give it with --guest ID.',
    });
  }
  const timeSeconds = wish.timeSeconds ?? named?.timeSeconds ?? header.timeSeconds;
  if (!isTime(timeSeconds)) {
    throw new UsageError('time-unknown', 'neither the name of the file nor its header tells a time that can be', {
      object: file,
      found: `${timeSeconds}`,
      advice: 'Give it with --time EPOCH.',
    });
  }
  const configs = distinctConfigs(header.configs, companions.configs);
  const guestName = nameIn(header);
  return {
    namespace: wish.guest?.namespace ?? '',
    guestId,
    ...(guestName === undefined ? {} : { guestName }),
    ...{ timeSeconds, source: 'vma', sourceUuid: header.uuid, consistency: 'crash' },
    disks: describeDisks(header.devices, file, log),
    configs,
    ...{ notes: companions.notes, isProtected: companions.isProtected },
  };
}

function describeDisks(devices: readonly VmaDevice[], file: string, log: Log): DiskDescription[] {
  const taken = new Set(devices.map((device) => device.name).filter(isName));
  return devices.map((device) => {
    const name = isName(device.name) ? device.name : madeName(device.name, taken);
    if (name !== device.name) log.warn(`${file}: the device ${JSON.stringify(device.name)} is kept as disk ${name}`);
    return isVmstate(device)
      ? { name, kind: 'vmstate', sizeBytes: undefined }
      : { name, kind: 'disk', sizeBytes: device.sizeBytes };
  });
}

/** A name that a disk may have, and no other has. */
function madeName(name: string, taken: Set<string>): string {
  const plain = `disk-${name.replaceAll(/[^A-Za-z0-9._-]/g, '-')}`.slice(0, 55);
  let made = plain;
  for (let i = 2; taken.has(made); i++) made = `${plain}-${i}`;
  taken.add(made);
  return made;
}

type Config = VmaHeader['configs'][number];

/** A .vma may have two of one name. */
export function distinctConfigs(...lists: readonly (readonly Config[])[]): Config[] {
  const taken = new Set<string>();
  return lists.flat().map(({ name, content }) => {
    let made = name;
    for (let i = 2; taken.has(made); i++) made = `${name.slice(0, 200)}.${i}`;
    taken.add(made);
    return { name: made, content };
  });
}

/** What Proxmox calls the guest; snapshots follow in sections of their own. */
export function nameIn(header: VmaHeader): string | undefined {
  const config = header.configs.find(({ name }) => name === MAIN_CONFIG);
  if (config === undefined) return undefined;
  const [current = ''] = new TextDecoder().decode(config.content).split(/^\[/m);
  return /^name:\s*(\S{1,255})\s*$/m.exec(current)?.[1];
}

/** Takes what follows the header. @throws DamageError where the file is not whole: then nothing was imported */
export async function importVma(
  input: VmaInput,
  description: BackupDescription,
  place: ImportPlace,
): Promise<ImportResult> {
  return await place.add(description, async (sink, scratchDirectory) => {
    return await fill(input, description, sink, scratchDirectory, place.options.signal);
  });
}

async function fill(
  input: VmaInput,
  description: BackupDescription,
  sink: ArchiveSink,
  scratchDirectory: string,
  signal: AbortSignal | undefined,
): Promise<DumpResult> {
  const devices = input.header.devices.map((device) => {
    return { id: device.id, sizeBytes: isVmstate(device) ? undefined : device.sizeBytes };
  });
  const target = new SmallToSink(devices, sink, scratchDirectory);
  try {
    await sink.begin(description);
    const summary = await input.copyTo(target, signal);
    await target.finish(summary.devices);
    return await sink.finish();
  } catch (error) {
    target.close();
    await sink.abort();
    throw error;
  } finally {
    target.close();
  }
}
