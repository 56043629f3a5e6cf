// SPDX-License-Identifier: MIT
// State files that an earlier process has left, as far as one must know them before their backup is opened: which
// backup they are of, and whether it is needed still.
//
// Guarantees: nothing is taken, locked or changed; what is found here is looked at again when the state is opened.

import { constants } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { VmarError } from '../base/errors.js';
import { decodeHeader, type JournalIdentity, MOST_HEAD_BYTES, recordSalt } from './journal-header.js';
import { decodeRecord, RECORD_BYTES } from './journal-record.js';
import { statePathOf } from './live-state.js';

export interface FoundState {
  readonly path: string;
  readonly backup: JournalIdentity['backup'];
  /** The target holds all, by the last record. */
  readonly isComplete: boolean;
}

/** What a command says of one disk, whose name may be short. */
export interface StateWish {
  readonly disk: string;
  readonly target: string;
  /** Undefined: the default place. */
  readonly statePath: string | undefined;
}

/** Undefined where there is none, or none that can be read: whoever opens it tells why. */
export async function findState({ target, statePath }: StateWish): Promise<FoundState | undefined> {
  try {
    const path = resolve(await statePathOf(target, statePath));
    const found = await readEnds(path);
    if (found === undefined) return undefined;
    const { header, places } = decodeHeader(found.head, path);
    const { backup } = header;
    const isWhole =
      found.sizeBytes > places.recordsStart && (found.sizeBytes - places.recordsStart) % RECORD_BYTES === 0;
    const last = isWhole ? decodeRecord(found.last, recordSalt(header), 0) : undefined;
    return { path, backup, isComplete: last?.kind === 'complete' };
  } catch (error) {
    if (error instanceof VmarError) return undefined;
    throw error;
  }
}

/**
 * Where the state of one disk of several lies, FILE.NAME, when only a short name is known.
 * @returns FILE.NAME with the name as given if that is not to be found
 */
export async function findStatePath(file: string, disk: string): Promise<string> {
  const names = await readdir(dirname(resolve(file))).catch(() => []);
  const prefix = `${basename(file)}.`;
  const disks = names.filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length));
  const long = disks.filter((name) => name.endsWith(`-${disk}`));
  return `${file}.${disks.includes(disk) || long.length !== 1 ? disk : long[0]}`;
}

async function readEnds(path: string): Promise<{ sizeBytes: number; head: Uint8Array; last: Uint8Array } | undefined> {
  const { O_RDONLY, O_NONBLOCK, O_NOFOLLOW } = constants;
  const file = await open(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW).catch(() => undefined);
  if (file === undefined) return undefined;
  try {
    const found = await file.stat();
    if (!found.isFile()) return undefined;
    const { size } = found;
    const head = await file.read(Buffer.alloc(MOST_HEAD_BYTES), 0, MOST_HEAD_BYTES, 0);
    const last = await file.read(Buffer.alloc(RECORD_BYTES), 0, RECORD_BYTES, Math.max(0, size - RECORD_BYTES));
    return { sizeBytes: size, head: head.buffer.subarray(0, head.bytesRead), last: last.buffer };
  } finally {
    await file.close();
  }
}
