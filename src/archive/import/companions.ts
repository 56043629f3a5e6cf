// SPDX-License-Identifier: MIT
// What lies beside an archive of vzdump: notes, the log of its making, and the mark that protects it.

import { open } from 'node:fs/promises';
import { basename } from 'node:path';
import { isConfigName } from '../../../formats/vmar/names.js';
import { systemErrorCode } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import { vzdumpCompanions } from './vzdump-name.js';

export interface Companions {
  readonly notes: string;
  readonly isProtected: boolean;
  /** The log, under its own name. */
  readonly configs: readonly { readonly name: string; readonly content: Uint8Array }[];
}

const NONE: Companions = { notes: '', isProtected: false, configs: [] };
const MOST_BYTES = 1 << 20;

/** What cannot be read is said and left out: the disks count. */
export async function readCompanions(path: string, log: Log): Promise<Companions> {
  const beside = vzdumpCompanions(path);
  if (beside === undefined) return NONE;
  const notes = await readIfThere(beside.notes, log);
  const told = await readIfThere(beside.log, log);
  const name = basename(beside.log);
  return {
    notes: notes === undefined ? '' : new TextDecoder().decode(notes),
    isProtected: (await readIfThere(beside.mark, log)) !== undefined,
    configs: told === undefined || !isConfigName(name) ? [] : [{ name, content: told }],
  };
}

async function readIfThere(path: string, log: Log): Promise<Uint8Array | undefined> {
  try {
    const file = await open(path, 'r');
    try {
      const { size } = await file.stat();
      if (size <= MOST_BYTES) return await file.readFile();
      log.warn(`${path} is not kept: it is larger than ${MOST_BYTES} bytes`);
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
