// SPDX-License-Identifier: MIT
// Files of a guest that are no disks: firmware variables, the state of a TPM. They are kept whole, as what they are.

import { stat } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isName } from '../../formats/vmar/names.js';
import { FailedError, UsageError } from '../base/errors.js';
import type { BlockDevice } from '../block/device.js';
import { openFileDevice } from '../block/file-device.js';
import { MemoryDevice } from '../block/memory-device.js';
import type { BackupInput } from './backup-input.js';
import type { Context } from './context.js';
import { refuseDuplicates } from './parse-pair.js';

/** Firmware variables are half a MiB, swtpm's state some KiB, a volume for either a few MiB. */
const MOST_BLOB_BYTES = 64 << 20;
/** A guest that runs may be writing it. */
const READS = 20;
const PAUSE_MILLIS = 25;

export interface BlobWish {
  /** As that of a disk. */
  readonly name: string;
  readonly path: string;
}

/** `[NAME=]FILE`; without a name it is the file's. */
export function parseBlobs(texts: readonly string[]): readonly BlobWish[] {
  const blobs = texts.map((text): BlobWish => {
    const cut = text.indexOf('=');
    const isNamed = cut > 0 && isName(text.slice(0, cut));
    const path = isNamed ? text.slice(cut + 1) : text;
    const name = isNamed ? text.slice(0, cut) : basename(path);
    if (path !== '' && isName(name)) return { name, path };
    throw new UsageError('bad-blob', 'a blob cannot be kept under this name', {
      object: `--blob ${text}`,
      expected: 'letters, digits, ".", "_" and "-", 63 at most, beginning with a letter or digit',
      advice: 'Give it another name: --blob NAME=FILE.',
    });
  });
  refuseDuplicates(
    blobs.map(({ name }) => name),
    '--blob',
    'name',
  );
  return blobs;
}

/** @throws FailedError where one is missing, no file, or too large */
export async function checkBlobs(blobs: readonly BlobWish[]): Promise<void> {
  for (const { path } of blobs) await (await openBlob(path, true)).close();
}

/** The input with the blobs after its disks, as they are now. `shared`: a guest that runs may have them open. */
export async function withBlobs(
  context: Context,
  input: BackupInput,
  blobs: readonly BlobWish[],
  shared: boolean,
): Promise<BackupInput> {
  if (blobs.length === 0) return input;
  refuseTaken(input, blobs);
  const devices: BlockDevice[] = [];
  for (const { name, path } of blobs) devices.push(await readBlob(context, name, path, shared));
  const described = blobs.map(({ name }, at) => {
    return { name, kind: 'blob' as const, sizeBytes: devices[at]!.lengthBytes };
  });
  return {
    ...input,
    disks: [...input.disks, ...devices.map((device) => ({ device }))],
    description: { ...input.description, disks: [...input.description.disks, ...described] },
    close: (outcome) => input.close(outcome),
  };
}

/** `restore --to` writes each to a place of its own. */
function refuseTaken({ description }: BackupInput, blobs: readonly BlobWish[]): void {
  const taken = new Set(description.disks.flatMap(({ name }) => [name, `${name}.raw`]));
  const clash = blobs.find(({ name }) => taken.has(name));
  if (clash === undefined) return;
  throw new UsageError('duplicate', 'a blob has the name of a disk', {
    object: `--blob ${clash.path}`,
    found: clash.name,
    advice: 'Give it another name: --blob NAME=FILE.',
  });
}

/** All of it, twice the same: nobody wrote in between. */
async function readBlob({ log }: Context, name: string, path: string, shared: boolean): Promise<BlockDevice> {
  let last = await readOnce(path, shared);
  let isSteady = false;
  for (let read = 1; !isSteady && read < READS; read++) {
    // Opened anew each time: swtpm writes a new file and gives it the name.
    const next = await readOnce(path, shared);
    isSteady = next.equals(last);
    last = next;
    if (!isSteady) await delay(PAUSE_MILLIS);
  }
  if (!isSteady) log.warn(`${path} changes all the time: what is kept of it may be of two moments`);
  const device = new MemoryDevice(last.byteLength, { name });
  await device.write(0, last);
  return device;
}

async function readOnce(path: string, shared: boolean): Promise<Buffer> {
  const device = await openBlob(path, shared);
  try {
    const content = Buffer.alloc(device.lengthBytes);
    await device.read(0, content);
    return content;
  } finally {
    await device.close();
  }
}

async function openBlob(path: string, shared: boolean): Promise<BlockDevice> {
  const device = await openFileDevice(path, { readOnly: true, forceShare: shared });
  if (device.lengthBytes <= MOST_BLOB_BYTES) return device;
  await device.close();
  throw new FailedError('blob-too-large', 'the file is too large for a blob', {
    object: path,
    expected: `at most ${MOST_BLOB_BYTES} bytes`,
    found: `${device.lengthBytes} bytes`,
    advice: 'Disks are given with --disk NAME=IMAGE.',
  });
}

/** Whether one of the blobs is that very file. */
export async function isAmong(path: string, blobs: readonly BlobWish[]): Promise<boolean> {
  const wanted = await stat(path).catch(() => undefined);
  for (const blob of blobs) {
    if (resolve(blob.path) === resolve(path)) return true;
    const found = await stat(blob.path).catch(() => undefined);
    if (wanted !== undefined && found?.ino === wanted.ino && found.dev === wanted.dev) return true;
  }
  return false;
}
