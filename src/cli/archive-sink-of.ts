// SPDX-License-Identifier: MIT
// The sink that writes an archive in the format that was asked for.

import { createWriteStream } from 'node:fs';
import { createTarSink } from '../../plugins/sink-tar/sink-tar.js';
import { VmaSink } from '../../plugins/sink-vma/sink-vma.js';
import { ArchiveSink } from '../archive/archive-sink.js';
import { openArchiveVault } from '../archive/archive-vault.js';
import type { Machine } from '../archive/machine.js';
import { type ArchiveTarget, openOutput } from '../archive/output-place.js';
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

function archiveTarget(path: string | undefined): ArchiveTarget {
  if (path !== undefined) return { kind: 'file', path, overwrite: false };
  // Not process.stdout, which blocks this thread while the reader is slow.
  return { kind: 'stream', stream: createWriteStream('', { fd: 1, autoClose: false }) };
}
