// SPDX-License-Identifier: MIT
// One file to import, whatever it is: its first bytes say, not its name.

import { mkdtemp, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { CONTAINER_MAGIC } from '../../../formats/vmar/container-header.js';
import { bytesEqual } from '../../base/bytes.js';
import { FailedError } from '../../base/errors.js';
import { openArchive } from '../open-backup.js';
import type { ByteStream, ReadingOptions } from './byte-stream.js';
import { readCompanions } from './companions.js';
import { importArchive } from './import-archive.js';
import type { ImportPlace, ImportResult } from './import-place.js';
import { importTar } from './import-tar.js';
import { describeVma, type ImportWish, importVma } from './import-vma.js';
import { type ByteSource, openBytes, sniffed } from './open-bytes.js';
import { VmaInput } from './vma-input.js';

export interface ImportFileOptions extends ImportWish {
  /** For what cannot be read from front to back. */
  readonly temporaryDirectory: string;
  /** Told of bytes read from the file. */
  readonly onRead?: (bytes: number) => void;
}

const SNIFFED_BYTES = 512;
const USTAR_AT = 257;
const USTAR_MAGIC = Buffer.from('ustar', 'latin1');
const VMA_MAGIC = Uint8Array.of(0x56, 0x4d, 0x41, 0x00);

/** Imports it, or nothing of it. @throws DamageError where it is not whole, FailedError if it is nothing known */
export async function importFile(
  source: ByteSource,
  place: ImportPlace,
  options: ImportFileOptions,
): Promise<ImportResult> {
  const opened = await openBytes(source, readingOf(options, place));
  try {
    const { first, stream } = await sniffed(opened, SNIFFED_BYTES);
    if (begins(first, VMA_MAGIC)) return await importVmaStream(stream, place, options);
    if (begins(first, CONTAINER_MAGIC)) {
      const isPlain = typeof source === 'string' && opened.plainFile !== undefined;
      return isPlain ? await importArchiveAt(source, place, options) : await importContainer(stream, place, options);
    }
    if (isTar(first)) return await importTar(stream, options, place);
    throw unknownFormat(stream.name, first);
  } finally {
    await opened.close();
  }
}

function readingOf({ onRead }: ImportFileOptions, { options: { signal } }: ImportPlace): ReadingOptions {
  return { ...(onRead === undefined ? {} : { onRead }), ...(signal === undefined ? {} : { signal }) };
}

async function importVmaStream(
  stream: ByteStream,
  place: ImportPlace,
  options: ImportFileOptions,
): Promise<ImportResult> {
  const { log } = place.options;
  const input = await VmaInput.open(stream);
  const companions = await readCompanions(stream.name, log);
  return await importVma(input, describeVma(stream.name, input.header, companions, options, log), place);
}

/** Its table is at its end: what is no plain file becomes one first. */
async function importContainer(
  stream: ByteStream,
  place: ImportPlace,
  options: ImportFileOptions,
): Promise<ImportResult> {
  const directory = await mkdtemp(join(options.temporaryDirectory, 'vmar-import-'));
  try {
    const path = join(directory, 'archive.vmar');
    const file = await open(path, 'wx', 0o600);
    try {
      for (let piece = await stream.next(); piece !== undefined; piece = await stream.next()) {
        await file.writeFile(piece);
      }
    } finally {
      await file.close();
    }
    return await importArchiveAt(path, place, options);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function importArchiveAt(path: string, place: ImportPlace, options: ImportFileOptions): Promise<ImportResult> {
  const backup = await openArchive(path);
  try {
    return await importArchive(backup, options, place);
  } finally {
    await backup.close();
  }
}

function begins(bytes: Uint8Array, magic: Uint8Array): boolean {
  return bytesEqual(bytes.subarray(0, magic.byteLength), magic);
}

function isTar(bytes: Uint8Array): boolean {
  return begins(bytes.subarray(USTAR_AT), USTAR_MAGIC);
}

function unknownFormat(name: string, first: Uint8Array): FailedError {
  const found = first.byteLength === 0 ? 'an empty file' : 'something else';
  return new FailedError('unknown-format', 'this is no archive that can be imported', {
    object: name,
    expected: '.vma, also compressed by zstd, gzip or lzop, .vmar, or a tar of ours',
    found,
  });
}
