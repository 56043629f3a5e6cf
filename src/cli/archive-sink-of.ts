// SPDX-License-Identifier: MIT
// The sink that writes an archive in the format that was asked for.

import { createWriteStream, fstatSync } from 'node:fs';
import { createTarSink } from '../../plugins/sink-tar/sink-tar.js';
import { VmaSink } from '../../plugins/sink-vma/sink-vma.js';
import { ArchiveSink } from '../archive/archive-sink.js';
import { openArchiveVault } from '../archive/archive-vault.js';
import type { Machine } from '../archive/machine.js';
import { type ArchiveTarget, openOutput } from '../archive/output-place.js';
import { setBlocking } from '../base/syscalls.js';
import type { DumpSink } from '../plugin-api.js';
import type { ArchiveFormat } from './export-wish.js';

export interface ArchiveSinkOptions {
  readonly format: ArchiveFormat;
  /** undefined: standard output. */
  readonly path: string | undefined;
  /** Of a .vmar archive: makes it, with clusters of that size. */
  readonly machine: () => { readonly machine: Machine; readonly clusterSizeBytes: number };
  /** Of a .vma archive: 16 bytes. */
  readonly uuid: Uint8Array;
  /** Disks come from front to back, as those do that nobody writes to. */
  readonly isOrdered: boolean;
}

/** @throws FailedError if the file exists, or cannot be made */
export async function openArchiveSink({
  format,
  path,
  machine,
  uuid,
  isOrdered,
}: ArchiveSinkOptions): Promise<DumpSink> {
  const target = archiveTarget(path);
  if (format === 'vma') return new VmaSink({ output: await openOutput(target), uuid, isOrdered });
  if (format === 'tar') return createTarSink({ output: await openOutput(target) });
  const made = machine();
  const vault = await openArchiveVault(target, { clusterSizeBytes: made.clusterSizeBytes, hash: made.machine.hash });
  return new ArchiveSink(vault, made.machine);
}

/** @param path undefined: standard output */
export function archiveTarget(path: string | undefined): ArchiveTarget {
  if (path !== undefined) return { kind: 'file', path, overwrite: false };
  return { kind: 'stream', stream: standardOutput() };
}

/**
 * Not process.stdout, which blocks this thread while the reader is slow. But it makes a pipe non-blocking as soon as anybody
 * looks at it, and then a write that finds the pipe full fails: that is taken back, after it can happen no more.
 */
function standardOutput(): NodeJS.WritableStream {
  const { fd } = process.stdout;
  if (!fstatSync(fd).isFile()) setBlocking(fd);
  return createWriteStream('', { fd, autoClose: false });
}
