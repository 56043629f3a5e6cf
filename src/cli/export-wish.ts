// SPDX-License-Identifier: MIT
// What the flags of an export ask for, and where an archive is written to, also by a backup.

import { statSync } from 'node:fs';
import { join } from 'node:path';
import { isatty } from 'node:tty';
import { formatTime } from '../../formats/vmar/names.js';
import { vzdumpName } from '../archive/import/vzdump-name.js';
import { UsageError } from '../base/errors.js';
import { parseCount, parseWorkers } from './parse-count.js';

export type ArchiveFormat = 'vmar' | 'vma' | 'tar';

export interface ExportFlags {
  readonly format?: string;
  readonly output?: string;
  readonly level?: string;
  readonly workers?: string;
}

/** Where an archive goes; a directory gives it a name. */
export type ArchivePlace =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'directory'; readonly path: string }
  | { readonly kind: 'standard-output' };

export interface ArchiveWish {
  readonly format: ArchiveFormat;
  readonly place: ArchivePlace;
}

export interface ExportWish extends ArchiveWish {
  /** Of zstd, in a .vmar archive; untold, what is stored goes as it is. */
  readonly level?: number;
  readonly workers?: number;
}

const FORMATS: readonly ArchiveFormat[] = ['vmar', 'vma', 'tar'];
const COMPRESSED = /\.(zst|gz|lzo|xz|bz2)$/;
const MOST_LEVEL = 22;

export function parseExport(flags: ExportFlags): ExportWish {
  if (flags.output === undefined) {
    throw new UsageError('needs-output', 'nothing says where to export to', {
      advice: 'Give --output FILE, --output DIR or, for standard output, --output -.',
    });
  }
  return {
    ...parseArchive(flags.output, flags.format),
    ...(flags.level === undefined ? {} : { level: parseCount(flags.level, '--level', 1, MOST_LEVEL) }),
    ...parseWorkers(flags.workers),
  };
}

/** The format is as told, else as the name ends; .vmar where neither says anything. */
export function parseArchive(output: string, told: string | undefined): ArchiveWish {
  const format = told === undefined ? undefined : FORMATS.find((each) => each === told);
  if (told !== undefined && format === undefined) {
    throw new UsageError('bad-format', 'there is no such format', {
      object: `--format ${told}`,
      expected: FORMATS.join(', '),
    });
  }
  if (output === '-') {
    refuseTerminal();
    return { format: format ?? 'vmar', place: { kind: 'standard-output' } };
  }
  if (output === '') throw new UsageError('bad-output', 'the name of the output is empty', { object: '--output' });
  if (output.endsWith('/') || isDirectory(output)) {
    return { format: format ?? 'vmar', place: { kind: 'directory', path: output } };
  }
  const named = FORMATS.find((each) => output.endsWith(`.${each}`));
  if (format === undefined && named === undefined) throw badName(output);
  return { format: format ?? named ?? 'vmar', place: { kind: 'file', path: output } };
}

function badName(output: string): UsageError {
  const isCompressed = COMPRESSED.test(output);
  return new UsageError('bad-output', 'the name of an archive ends in .vmar, .vma or .tar', {
    object: `--output ${output}`,
    advice: isCompressed
      ? 'Compress what comes with --output - instead: vmar … --output - | zstd.'
      : 'Choose such a name, or add --format vmar, vma or tar.',
  });
}

/** The file: in a directory called as the format's readers want it. */
export function archivePath({ format, place }: ArchiveWish, guestId: string, timeSeconds: number): string | undefined {
  if (place.kind === 'standard-output') return undefined;
  if (place.kind === 'file') return place.path;
  if (format === 'vma') return join(place.path, vzdumpName(guestId, timeSeconds));
  const time = formatTime(timeSeconds).replaceAll(':', '-');
  return join(place.path, `${guestId}-${time}.${format === 'tar' ? 'vmar.tar' : format}`);
}

function refuseTerminal(): void {
  if (!isatty(1)) return;
  throw new UsageError('terminal', 'an archive is not written to a terminal', {
    object: '--output -',
    advice: 'Send it to a file or another program.',
  });
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}
