// SPDX-License-Identifier: MIT
// Checks the file systems on the disks of a backup, each by its own tool, without restoring them: what is not looked at is
// not read. What is not checkable is said of each partition.

import { mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { FailedError } from '../../base/errors.js';
import type { BlockDevice } from '../../block/device.js';
import { NbdServer } from '../../nbd/server/nbd-server.js';
import { type CheckedContent, canCheck, checkContent } from './check-content.js';
import type { DrillDisk } from './drill-disk.js';
import type { DrillPlace } from './drill-place.js';
import { fileOfExport } from './file-of-export.js';
import { type Content, contentOf } from './file-system.js';
import { type PartitionTable, readPartitions } from './partitions.js';
import { SliceDevice } from './slice-device.js';

export interface DrilledPartition extends CheckedContent {
  /** 0: the whole disk. */
  readonly number: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly fileSystem: string;
}

export interface FsckedDisk {
  readonly name: string;
  readonly table: PartitionTable['kind'];
  /** What is wrong with the table. */
  readonly problem?: string;
  readonly partitions: readonly DrilledPartition[];
}

const COPY_BYTES = 1 << 20;

export async function fsckDisk(disk: DrillDisk, place: DrillPlace, allowMount: boolean): Promise<FsckedDisk> {
  const whole = await contentOf(disk.node);
  // A boot sector of FAT looks like an MBR.
  const table: PartitionTable =
    whole.kind === 'vfat' ? { kind: 'none', partitions: [] } : await readPartitions(disk.node);
  const { kind, problem } = table;
  const parts =
    kind === 'none' ? [{ number: 0, offsetBytes: 0, lengthBytes: disk.node.lengthBytes }] : table.partitions;
  const partitions: DrilledPartition[] = [];
  for (const part of parts) {
    place.signal.throwIfAborted();
    const name = `${disk.name}.${part.number}`;
    const device = new SliceDevice(disk.node, name, part.offsetBytes, part.lengthBytes);
    const content = await contentOf(device);
    const checked = await checkPart(name, device, content, place, allowMount);
    partitions.push({ ...part, fileSystem: content.name, ...checked });
  }
  return { name: disk.name, table: kind, ...(problem === undefined ? {} : { problem }), partitions };
}

async function checkPart(
  name: string,
  device: BlockDevice,
  content: Content,
  place: DrillPlace,
  allowMount: boolean,
): Promise<CheckedContent> {
  if (content.kind === 'empty') return { result: 'empty', replayed: false };
  if (!canCheck(content)) {
    const problem =
      content.kind === 'unknown' ? 'what lies in it is not known' : 'it cannot be checked from outside of the guest';
    return { result: 'unchecked', replayed: false, problem };
  }
  const mountPath = allowMount ? join(place.directory, `${name}-log.mount`) : undefined;
  if (mountPath !== undefined) await mkdir(mountPath);
  const { directory, signal } = place;
  return await withFile(name, device, place, async (path) => {
    return await checkContent(content, { path, device, directory, mountPath, signal });
  });
}

/** The partition as a file: shown by FUSE, or copied to scratch where there is none. */
async function withFile<Result>(
  name: string,
  device: BlockDevice,
  place: DrillPlace,
  action: (path: string) => Promise<Result>,
): Promise<Result> {
  const { directory, socketPath, signal, log } = place;
  const server = new NbdServer({ exports: [{ name, device, readOnly: false }], log });
  await server.listenUnix(socketPath);
  try {
    const { lengthBytes } = device;
    const file = await fileOfExport({ directory, socketPath, exportName: name, lengthBytes, signal });
    try {
      return await action(file.path);
    } finally {
      await file.end();
    }
  } catch (error) {
    if (!(error instanceof FailedError) || !error.code.startsWith('fuse-')) throw error;
    log.info(`${error.message}; ${name} is copied to ${place.workDirectory} to be checked`);
    const path = join(place.workDirectory, `${name}.copy`);
    await copyOut(device, path, signal);
    return await action(path);
  } finally {
    await server.close({ graceMillis: 0 });
  }
}

async function copyOut(device: BlockDevice, path: string, signal: AbortSignal): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  const buffer = Buffer.alloc(COPY_BYTES);
  try {
    await file.truncate(device.lengthBytes);
    for (let at = 0; at < device.lengthBytes; ) {
      signal.throwIfAborted();
      const [extent] = await device.blockStatus(at, device.lengthBytes - at);
      const lengthBytes = Math.min(extent?.lengthBytes ?? COPY_BYTES, device.lengthBytes - at);
      if (extent?.state === 'zero') {
        at += lengthBytes;
        continue;
      }
      const piece = buffer.subarray(0, Math.min(COPY_BYTES, lengthBytes));
      await device.read(at, piece);
      await file.write(piece, 0, piece.byteLength, at);
      at += piece.byteLength;
    }
  } finally {
    await file.close();
  }
}
