// SPDX-License-Identifier: MIT
// What lies beside an archive of vzdump: notes, the log of its making, and the mark that protects it.

import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { basename } from 'node:path';
import { isConfigName } from '../../../formats/vmar/names.js';
import { bytesEqual } from '../../base/bytes.js';
import { systemErrorCode } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import { vzdumpCompanions } from './vzdump-name.js';

export interface Companions {
  readonly notes: string;
  readonly isProtected: boolean;
  /** The log, under its own name; notes that are no UTF-8, too. */
  readonly configs: readonly { readonly name: string; readonly content: Uint8Array }[];
}

const NONE: Companions = { notes: '', isProtected: false, configs: [] };
const MOST_BYTES = 1 << 20;
const NOTES_NAME = /\.vma(\.zst|\.gz|\.lzo)?\.notes$/;

/** What cannot be read is said and left out: the disks count. */
export async function readCompanions(path: string, log: Log): Promise<Companions> {
  const beside = vzdumpCompanions(path);
  if (beside === undefined) return NONE;
  const notes = await readIfThere(beside.notes, log);
  const told = await readIfThere(beside.log, log);
  const text = notes === undefined ? '' : decodeText(notes);
  const isExact = notes === undefined || bytesEqual(Buffer.from(text), notes);
  const configs = [
    ...(told === undefined ? [] : [{ name: basename(beside.log), content: told }]),
    ...(isExact || notes === undefined ? [] : [{ name: basename(beside.notes), content: notes }]),
  ];
  return {
    notes: text,
    isProtected: (await readIfThere(beside.mark, log)) !== undefined,
    configs: configs.filter(({ name }) => isConfigName(name)),
  };
}

function decodeText(bytes: Uint8Array): string {
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
}

type Configs = Companions['configs'];

/** Whether a configuration file of a backup is a log that an import found beside an archive. */
export function isKeptLog(name: string): boolean {
  return /^vzdump-qemu-.*\.log$/.test(name);
}

/** The configuration files of a backup that were in the archive itself. */
export function withoutCompanions(configs: Configs): Configs {
  return configs.filter(({ name }) => !isKeptLog(name) && !NOTES_NAME.test(name));
}

/**
 * The notes as the bytes that they were, `undefined` for none, and the configuration files that hold no notes. What an import
 * kept of notes that are no UTF-8 counts as long as nobody has changed them.
 */
export function keptNotes(configs: Configs, notes: string): { notes: Uint8Array | undefined; rest: Configs } {
  const kept = configs.find(({ name }) => NOTES_NAME.test(name));
  const rest = configs.filter((config) => config !== kept);
  if (kept !== undefined && decodeText(kept.content) === notes) return { notes: kept.content, rest };
  return { notes: notes === '' ? undefined : Buffer.from(notes), rest };
}

async function readIfThere(path: string, log: Log): Promise<Uint8Array | undefined> {
  try {
    // Without O_NONBLOCK a FIFO would wait here for a writer.
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stats = await file.stat();
      if (stats.isFile() && stats.size <= MOST_BYTES) return await file.readFile();
      log.warn(`${path} is not kept: it is ${stats.isFile() ? `larger than ${MOST_BYTES} bytes` : 'not a file'}`);
      return undefined;
    } finally {
      await file.close();
    }
  } catch (error) {
    const code = systemErrorCode(error);
    if (code !== 'ENOENT') log.warn(`${path} is not kept: it cannot be read (${code ?? String(error)})`);
    return undefined;
  }
}
