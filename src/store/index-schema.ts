// SPDX-License-Identifier: MIT
// What lies in the index's LMDB environment, and how it is opened.
//
//   chunks  id (32 bytes) → pack number u32, frame u32, offset u32, length u32 (the last three as in the
//           trailer's chunk table)
//   packs   pack number, big-endian → pack id (16 bytes), seal of its footer (16 bytes)
//   meta    'store' → UUID of the datastore (16 bytes), 'next' → the next pack number u32; 'schema' → u32
//
// A pack number is given once and never again, so an entry of a number that is not in `packs` is a leftover and no hit.

import { statfs } from 'node:fs/promises';
import { type Database, open, type RootDatabase } from 'lmdb';
import { FailedError } from '../base/errors.js';

export const SCHEMA = 1;
export const HIT_BYTES = 16;
/** Of a trailer's chunk table entry, what is taken over as it is: frame, offset, length. */
export const PLACE_OFFSET = 32;
export const PLACE_BYTES = 12;

/** Address space for the map; only pages that are used take memory. Room for a milliard chunks. */
const MAP_BYTES = 128 * 2 ** 30;
const READERS = 1024;

export type BinaryDb = Database<Uint8Array, Uint8Array>;

export interface IndexDbs {
  /** Runs what writes; one process at a time. */
  readonly alone: <Result>(action: () => Result | Promise<Result>) => Promise<Result>;
  readonly env: RootDatabase<Uint8Array, Uint8Array>;
  readonly chunks: BinaryDb;
  readonly packs: BinaryDb;
  readonly meta: BinaryDb;
}

const BINARY = { encoding: 'binary', keyEncoding: 'binary' } as const;

/**
 * Opens the environment in a directory, which is made if need be. Throws what LMDB throws. The caller sees to it that no
 * process opens, writes or closes it meanwhile, and closes it in the same way.
 */
export function openDbs(directory: string, alone: IndexDbs['alone']): IndexDbs {
  const env = open<Uint8Array, Uint8Array>({
    path: directory,
    ...BINARY,
    noSubdir: false,
    mapSize: MAP_BYTES,
    maxDbs: 4,
    maxReaders: READERS,
    // A cache: what a power cut tears is made again (index-state.ts). What a killed process wrote is whole all the same.
    noSync: true,
    // Every write is in a batch of ours. LMDB's own batches drop promises, and so end the process when a write fails.
    eventTurnBatching: false,
  });
  const chunks = env.openDB('chunks', BINARY);
  const packs = env.openDB('packs', BINARY);
  const meta = env.openDB('meta', BINARY);
  return { alone, env, chunks, packs, meta };
}

function word(text: string): Uint8Array {
  return Buffer.from(text, 'latin1');
}

export const META = { schema: word('schema'), store: word('store'), next: word('next') } as const;

export function packKey(number: number): Uint8Array {
  const key = Buffer.alloc(4);
  key.writeUInt32BE(number);
  return key;
}

export function uint32(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** A number from `meta`; undefined where there is none. */
export function readUint32(bytes: Uint8Array | undefined): number | undefined {
  return bytes?.byteLength === 4 ? Buffer.from(bytes).readUInt32LE(0) : undefined;
}

/**
 * Makes the changes that `action` queues, in one transaction, on LMDB's own thread. Rejects with the system's error if
 * it could not be written; then nothing was changed.
 */
export async function writeBatch(dbs: IndexDbs, action: () => void): Promise<void> {
  try {
    await dbs.alone(() => dbs.env.batch(action));
  } catch (error) {
    throw await rootOf(error);
  }
}

/** LMDB hides the error itself behind a promise. */
async function rootOf(error: unknown): Promise<unknown> {
  if (!(error instanceof Error && 'commitError' in error)) return error;
  return await Promise.resolve(error.commitError).then(
    () => error,
    (cause: unknown) => cause,
  );
}

/** Free space that the index leaves to others; also far more than one batch takes. */
const ROOM_BYTES = 64 << 20;

/** @throws FailedError if the file system is nearly full: a cache must not be what fills it. */
export async function requireRoom(directory: string): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  if (bavail * bsize >= ROOM_BYTES) return;
  throw new FailedError('index-failed', 'there is no room for the chunk index', {
    object: directory,
    expected: `${ROOM_BYTES} bytes free`,
    found: `${bavail * bsize} bytes`,
    advice: 'Free space there, or name another cache directory with VMAR_CACHE_DIR.',
  });
}

/** Marks a new environment as the store's; true if it is the store's, of this schema. The caller is alone. */
export function claimFor(dbs: IndexDbs, storeUuid: Uint8Array): boolean {
  const { env, meta } = dbs;
  const schema = readUint32(meta.getBinary(META.schema));
  if (schema === undefined) {
    env.transactionSync(() => {
      void meta.put(META.schema, uint32(SCHEMA));
      void meta.put(META.store, Buffer.from(storeUuid));
      void meta.put(META.next, uint32(1));
    });
    return true;
  }
  const store = meta.getBinary(META.store);
  return schema === SCHEMA && store !== undefined && Buffer.compare(store, storeUuid) === 0;
}
