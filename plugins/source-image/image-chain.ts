// SPDX-License-Identifier: MIT
// Backing files of qcow2 images. Each image must say in which format its backing file is: QEMU would guess, and a guest
// that had a raw disk could have written there whatever leads the guess to other files of the host.

import { open } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { FailedError } from '../../src/base/errors.js';

const MAGIC = 0x514649fb;
const HEADER_BYTES = 104;
const VERSION_2_HEADER_BYTES = 72;
const MOST_NAME_BYTES = 1023;
const BACKING_FORMAT = 0xe2792aca;
/** Where a cluster ends at the latest; all extensions lie in the first. */
const MOST_EXTENSIONS_BYTES = 2 << 20;
const MOST_EXTENSIONS = 64;
const MOST_IMAGES = 200;

interface Backing {
  readonly file: string;
  readonly format: string | undefined;
}

/** @throws FailedError 'backing-format-missing' naming the first image of the chain that does not say. */
export async function checkBackingFormats(path: string): Promise<void> {
  let image = path;
  for (let count = 0; count < MOST_IMAGES; count++) {
    const backing = await readBacking(image);
    if (backing === undefined || backing.file.startsWith('json:')) return;
    if (backing.format === undefined) throw formatMissing(image, backing.file);
    // A name with a protocol is not a path: QEMU knows it.
    if (backing.format !== 'qcow2' || /^[^/:]+:/.test(backing.file)) return;
    image = resolve(dirname(image), backing.file);
  }
  throw new FailedError('chain-too-long', 'the chain of backing files has no end', { object: path });
}

/** Undefined where there is none, or where QEMU will say what is wrong. */
async function readBacking(path: string): Promise<Backing | undefined> {
  let file: Awaited<ReturnType<typeof open>>;
  try {
    file = await open(path, 'r');
  } catch {
    return undefined;
  }
  const read = async (at: number, length: number): Promise<Buffer> => {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, at);
    return buffer.subarray(0, bytesRead);
  };
  try {
    const header = await read(0, HEADER_BYTES);
    if (header.length < HEADER_BYTES || header.readUInt32BE(0) !== MAGIC) return undefined;
    const nameAt = Number(header.readBigUInt64BE(8));
    const nameBytes = header.readUInt32BE(16);
    if (nameAt === 0 || nameBytes === 0 || nameBytes > MOST_NAME_BYTES) return undefined;
    const name = (await read(nameAt, nameBytes)).toString('utf8');
    const version = header.readUInt32BE(4);
    const from = version === 2 ? VERSION_2_HEADER_BYTES : header.readUInt32BE(100);
    return { file: name.replace(/^file:/, ''), format: await readFormat(read, from) };
  } finally {
    await file.close();
  }
}

async function readFormat(
  read: (at: number, length: number) => Promise<Buffer>,
  from: number,
): Promise<string | undefined> {
  for (let at = from, count = 0; count < MOST_EXTENSIONS && at < MOST_EXTENSIONS_BYTES; count++) {
    const head = await read(at, 8);
    if (head.length < 8 || head.readUInt32BE(0) === 0) return undefined;
    const length = head.readUInt32BE(4);
    if (head.readUInt32BE(0) === BACKING_FORMAT) return (await read(at + 8, Math.min(length, 16))).toString('latin1');
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return undefined;
}

function formatMissing(image: string, backing: string): FailedError {
  return new FailedError('backing-format-missing', 'the image does not say in which format its backing file is', {
    object: image,
    found: `backing file ${backing}`,
    advice: `Look, and write it down: qemu-img rebase -u -f qcow2 -b ${backing} -F raw|qcow2 ${image}`,
  });
}
