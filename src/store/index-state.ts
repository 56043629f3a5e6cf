// SPDX-License-Identifier: MIT
// Whether the index's files may be opened. LMDB maps its file and trusts it: a torn or cut one can end the process. So a
// small state file beside it says whether what is on the disk is whole, and the file's head is looked at first.
//
// LMDB runs without syncing. After kill -9 the file is whole, since the kernel has all that was written. After a power
// cut it is not: a state that is not clean and was written before the machine's last start means rebuild.

import { randomBytes } from 'node:crypto';
import {
  closeSync,
  fstatSync,
  fsyncSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import { SCHEMA } from './index-schema.js';

const LMDB_MAGIC = 0xbeefc0de;
const LMDB_VERSION = 2;
const HEAD_BYTES = 16384;
/** A tenth of a second's work: some two million chunks. */
const MOST_SUMMED_BYTES = 128 << 20;
const PIECE_BYTES = 1 << 20;
/** Offsets in a meta page: after the page's header of 24 bytes. */
const META = { magic: 24, version: 28, pageSize: 48, lastPage: 144, transaction: 152 } as const;

export interface IndexState {
  readonly schema: number;
  /** UUID of the datastore, hex. */
  readonly store: string;
  /** Which start of the machine this was written in. */
  readonly boot: string;
  /** The data file as it was when all of it was durable; absent while it is being changed. */
  readonly clean?: FileStamp;
}

/** Changes whenever the file does. */
export interface FileStamp {
  readonly bytes: number;
  /** Nanoseconds, in decimal. */
  readonly changed: string;
  /** CRC-32 of the whole file; absent where that would take too long. */
  readonly sum?: number;
}

let boot: string | undefined;

/** Names this start of the machine; a random word where the kernel does not tell. */
function bootId(): string {
  if (boot !== undefined) return boot;
  try {
    boot = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
  } catch {
    boot = `unknown ${randomBytes(8).toString('hex')}`;
  }
  return boot;
}

export function dirtyState(store: string): IndexState {
  return { schema: SCHEMA, store, boot: bootId() };
}

export function cleanState(store: string, clean: FileStamp): IndexState {
  return { ...dirtyState(store), clean };
}

/** The state file's content; undefined if it is missing or makes no sense. */
export function readState(path: string): IndexState | undefined {
  try {
    const state: unknown = JSON.parse(readFileSync(path, 'utf8'));
    return isState(state) ? state : undefined;
  } catch {
    return undefined;
  }
}

function isState(value: unknown): value is IndexState {
  if (typeof value !== 'object' || value === null) return false;
  if (!('schema' in value && 'store' in value && 'boot' in value)) return false;
  if (!('clean' in value)) return true;
  const clean = value.clean;
  if (typeof clean !== 'object' || clean === null || !('bytes' in clean && 'changed' in clean)) return false;
  return !('sum' in clean) || typeof clean.sum === 'number';
}

/** Durable once it returns: a power cut must not bring an older state back. */
export function writeState(path: string, state: IndexState): void {
  const temporary = `${path}.${randomBytes(4).toString('hex')}`;
  try {
    const fd = openSync(temporary, 'wx', 0o600);
    try {
      writeSync(fd, JSON.stringify(state));
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
  const directory = openSync(dirname(path), 'r');
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

/** Why the index must not be opened as it is; undefined if it may be, or if there is none yet. */
export function whyNot(state: IndexState | undefined, store: string, dataPath: string): string | undefined {
  const head = readHead(dataPath);
  if (head === undefined) return state === undefined ? undefined : 'its data are gone';
  if (state === undefined) return 'its state is not known';
  if (state.schema !== SCHEMA) return 'it is of another version';
  if (state.store !== store) return 'it is of another datastore';
  if (state.clean === undefined && state.boot !== bootId()) return 'the machine went down while it was written';
  if (state.clean === undefined) return headProblem(head);
  if (!sameStamp(state.clean, head.stamp)) return 'its file was changed by something else';
  return headProblem(head) ?? sumProblem(state.clean, dataPath);
}

/** A flipped bit can end the process, and every one that opens the file after it. */
function sumProblem({ sum, bytes }: FileStamp, dataPath: string): string | undefined {
  return sum === undefined || sum === sumOf(dataPath, bytes) ? undefined : 'its file is damaged';
}

/** Undefined if the file is too long, or not as long as that. */
function sumOf(path: string, lengthBytes: number): number | undefined {
  if (lengthBytes > MOST_SUMMED_BYTES) return undefined;
  const fd = openSync(path, 'r');
  try {
    const piece = Buffer.allocUnsafeSlow(Math.min(PIECE_BYTES, lengthBytes));
    let sum = 0;
    for (let done = 0; done < lengthBytes; ) {
      const got = readSync(fd, piece, 0, Math.min(piece.byteLength, lengthBytes - done), done);
      if (got === 0) return undefined;
      sum = crc32(piece.subarray(0, got), sum);
      done += got;
    }
    return sum;
  } finally {
    closeSync(fd);
  }
}

/** True if it may be opened beside other processes that have it open already. */
export function isJoinable(state: IndexState | undefined, store: string): boolean {
  if (state === undefined || state.schema !== SCHEMA || state.store !== store) return false;
  return state.clean !== undefined || state.boot === bootId();
}

interface FileHead {
  readonly stamp: FileStamp;
  readonly bytes: Buffer;
}

/** Of a file that nobody writes to. */
export function stampOf(dataPath: string): FileStamp | undefined {
  const stamp = readHead(dataPath)?.stamp;
  const sum = stamp === undefined ? undefined : sumOf(dataPath, stamp.bytes);
  return stamp === undefined || sum === undefined ? stamp : { ...stamp, sum };
}

function readHead(dataPath: string): FileHead | undefined {
  let fd: number;
  try {
    fd = openSync(dataPath, 'r');
  } catch {
    return undefined;
  }
  try {
    const { size, mtimeNs } = fstatSync(fd, { bigint: true });
    const bytes = Buffer.alloc(HEAD_BYTES);
    const got = readSync(fd, bytes, 0, HEAD_BYTES, 0);
    return { stamp: { bytes: Number(size), changed: `${mtimeNs}` }, bytes: bytes.subarray(0, got) };
  } finally {
    closeSync(fd);
  }
}

function sameStamp(a: FileStamp, b: FileStamp): boolean {
  return a.bytes === b.bytes && a.changed === b.changed;
}

/**
 * Checks both meta pages, and that the file is as long as the newer one says. LMDB may leave out free pages at the end,
 * so a whole file may look cut: that costs a rebuild, the other mistake the process.
 */
function headProblem(head: FileHead): string | undefined {
  const { bytes, stamp } = head;
  if (bytes.length < META.transaction + 8) return 'it is cut off';
  const pageSize = bytes.readUInt32LE(META.pageSize);
  if (pageSize < 512 || pageSize > HEAD_BYTES / 2 || bytes.length < 2 * pageSize) return 'its head is damaged';
  let newest = { transaction: -1n, lastPage: 0n };
  for (const page of [bytes.subarray(0, pageSize), bytes.subarray(pageSize, 2 * pageSize)]) {
    if (page.readUInt32LE(META.magic) !== LMDB_MAGIC || page.readUInt32LE(META.version) !== LMDB_VERSION) {
      return 'its head is damaged';
    }
    const transaction = page.readBigUInt64LE(META.transaction);
    if (transaction > newest.transaction) newest = { transaction, lastPage: page.readBigUInt64LE(META.lastPage) };
  }
  return (newest.lastPage + 1n) * BigInt(pageSize) > BigInt(stamp.bytes) ? 'it is cut off' : undefined;
}

export function statePaths(directory: string) {
  return {
    /** Held, shared, by every process that has the index open; exclusively by one that looks at it or removes it. */
    lock: join(directory, 'index.lock'),
    state: join(directory, 'index.state'),
    /** See index-gate.ts. */
    gate: join(directory, 'index.gate'),
    queue: join(directory, 'index.queue'),
    environment: join(directory, 'index'),
    data: join(directory, 'index', 'data.mdb'),
  };
}
