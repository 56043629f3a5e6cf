// SPDX-License-Identifier: MIT
// The head of a live restore's state file: whose it is, and what was held when it was begun.
//
//   offset      size  field
//   0           8     magic "VMARLIVE"
//   8           4     version, 1
//   12          4     length of the head: of all before the snapshot
//   16          n     JSON, UTF-8
//   16 + n      32    SHA-256 of all before it
//   then              the snapshot: a serialized DirtyBitmap, whose length and SHA-256 stand in the JSON
//   then              zeros up to a multiple of 4096; records follow
//
// Records begin on a page of their own, so that no write of one can tear the head.

import { createHash, randomBytes } from 'node:crypto';
import { asBuffer, bytesEqual, fromHex, toHex } from '../base/bytes.js';
import { isPowerOfTwo, isSize } from '../base/checked.js';
import { DamageError, FailedError } from '../base/errors.js';

const MAGIC = Buffer.from('VMARLIVE');
const VERSION = 1;
const FIXED_BYTES = 16;
const SEAL_BYTES = 32;
export const MOST_HEAD_BYTES = 64 << 10;
const PAGE_BYTES = 4096;

/** The backup's disk and the target that a journal speaks of. */
export interface JournalIdentity {
  readonly backup: {
    readonly name: string;
    /** Of the manifest, hexadecimal. */
    readonly digest: string;
    readonly disk: string;
    readonly mapRoot: string;
    readonly sizeBytes: number;
  };
  readonly target: {
    /** Absolute. */
    readonly path: string;
    readonly kind: 'file' | 'device';
    /** Of a file, decimal: another file of the same name is another target. */
    readonly inode: string | undefined;
    readonly sizeBytes: number;
  };
}

export interface JournalHeader extends JournalIdentity {
  /** Random, hexadecimal: another one for each generation of the file. */
  readonly id: string;
  readonly granularityBytes: number;
  /** While the kernel runs that had it, all that was written is still in its page cache. */
  readonly bootId: string;
  /** Sequence number of the first record. */
  readonly firstSequence: number;
  readonly snapshotBytes: number;
  readonly snapshotDigest: string;
}

export function newJournalId(): string {
  return randomBytes(16).toString('hex');
}

/** What the checksums of a journal's records begin with: a record of another journal, or generation, is none of this. */
export function recordSalt({ id }: JournalHeader): number {
  return createHash('sha256').update(id).digest().readUInt32LE(0);
}

/** Head and snapshot, up to where the records begin. */
export function encodeHeader(
  header: Omit<JournalHeader, 'snapshotBytes' | 'snapshotDigest'>,
  snapshot: Uint8Array,
): { header: JournalHeader; bytes: Uint8Array } {
  const full = { ...header, snapshotBytes: snapshot.byteLength, snapshotDigest: sha256(snapshot) };
  const json = Buffer.from(JSON.stringify(full));
  const headBytes = FIXED_BYTES + json.length + SEAL_BYTES;
  if (headBytes > MOST_HEAD_BYTES) {
    throw new FailedError('name-too-long', 'the names are too long for a state file', { object: header.target.path });
  }
  const bytes = Buffer.alloc(recordsStart(headBytes, snapshot.byteLength));
  MAGIC.copy(bytes);
  bytes.writeUInt32LE(VERSION, 8);
  bytes.writeUInt32LE(headBytes, 12);
  json.copy(bytes, FIXED_BYTES);
  createHash('sha256')
    .update(bytes.subarray(0, headBytes - SEAL_BYTES))
    .digest()
    .copy(bytes, headBytes - SEAL_BYTES);
  bytes.set(snapshot, headBytes);
  return { header: full, bytes };
}

/** Where the snapshot and the records begin. */
export interface HeaderPlaces {
  readonly snapshotStart: number;
  readonly recordsStart: number;
}

/**
 * The head of a file, from its first bytes: MOST_HEAD_BYTES of them, or all there are.
 * @throws FailedError 'not-a-state-file' or 'newer-state-file'; DamageError 'state-damaged'.
 */
export function decodeHeader(bytes: Uint8Array, path: string): { header: JournalHeader; places: HeaderPlaces } {
  const all = asBuffer(bytes);
  if (all.length < FIXED_BYTES || !all.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw new FailedError('not-a-state-file', 'the file is no state of a live restore', {
      object: path,
      advice: 'Name another file with --state, or remove this one if nobody needs it.',
    });
  }
  const [version, headBytes] = [all.readUInt32LE(8), all.readUInt32LE(12)];
  if (version > VERSION) {
    throw new FailedError('newer-state-file', 'the state of the live restore was written by a newer version', {
      object: path,
      expected: `version ${VERSION}`,
      found: `version ${version}`,
      advice: 'Use the newer version of vmar.',
    });
  }
  const isCut = headBytes < FIXED_BYTES + SEAL_BYTES || headBytes > Math.min(MOST_HEAD_BYTES, all.length);
  if (version !== VERSION || isCut) throw stateDamaged(path, 'its head is damaged');
  const sealed = all.subarray(0, headBytes - SEAL_BYTES);
  const seal = createHash('sha256').update(sealed).digest();
  if (!seal.equals(all.subarray(headBytes - SEAL_BYTES, headBytes))) throw stateDamaged(path, 'its head is damaged');
  const header = parseHeader(sealed.toString('utf8', FIXED_BYTES));
  if (header === undefined) throw stateDamaged(path, 'its head makes no sense');
  return {
    header,
    places: { snapshotStart: headBytes, recordsStart: recordsStart(headBytes, header.snapshotBytes) },
  };
}

/** @throws DamageError if these are not the bytes that the header speaks of. */
export function checkSnapshot(header: JournalHeader, snapshot: Uint8Array, path: string): void {
  const expected = fromHex(header.snapshotDigest, SEAL_BYTES);
  if (expected !== undefined && bytesEqual(expected, createHash('sha256').update(snapshot).digest())) return;
  throw stateDamaged(path, 'its snapshot is damaged');
}

export function stateDamaged(path: string, why: string, offsetBytes?: number): DamageError {
  return new DamageError('state-damaged', `the state of the live restore cannot be trusted: ${why}`, {
    object: path,
    ...(offsetBytes === undefined ? {} : { offsetBytes }),
    advice:
      'What the guest wrote is on the target, but not which parts: copy the target away if it matters; then remove the ' +
      'state file and restore anew with --overwrite.',
  });
}

function recordsStart(headBytes: number, snapshotBytes: number): number {
  return Math.ceil((headBytes + snapshotBytes) / PAGE_BYTES) * PAGE_BYTES;
}

function sha256(bytes: Uint8Array): string {
  return toHex(createHash('sha256').update(bytes).digest());
}

type Unknown = { readonly [Field in string]?: unknown };

/** Undefined unless every field is there and of its kind. */
function parseHeader(text: string): JournalHeader | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isRecord(value) || !isRecord(value.backup) || !isRecord(value.target)) return undefined;
  const { backup, target } = value;
  const texts = [value.id, value.bootId, value.snapshotDigest, target.path];
  const names = [backup.name, backup.digest, backup.disk, backup.mapRoot];
  const sizes = [value.firstSequence, value.snapshotBytes, backup.sizeBytes, target.sizeBytes];
  const isWhole =
    [...texts, ...names].every((field) => typeof field === 'string') &&
    sizes.every(isSize) &&
    (target.kind === 'file' || target.kind === 'device') &&
    (target.inode === undefined || typeof target.inode === 'string') &&
    typeof value.granularityBytes === 'number' &&
    isPowerOfTwo(value.granularityBytes, 1, 1 << 30);
  return isWhole ? (value as unknown as JournalHeader) : undefined;
}

function isRecord(value: unknown): value is Unknown {
  return typeof value === 'object' && value !== null;
}
