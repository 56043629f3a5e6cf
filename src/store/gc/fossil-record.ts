// SPDX-License-Identifier: MIT
// The fossil record, state/fossils: which packs gc has condemned and not yet deleted, whom it waits for, and where the
// chunks of condemned and deleted packs are now. docs/ORDERING.md ("Deleting packs") says what it is for.
//
// One line of "VMARFOSS 1 SHA-256-of-the-rest", then JSON. The digest is checked before a byte is believed.

import { createHash } from 'node:crypto';
import { DamageError } from '../../base/errors.js';
import { isPackId, type PackId } from '../layout.js';

/** Packs that were condemned together. */
export interface Generation {
  readonly packs: ReadonlySet<PackId>;
  /** Ids of the sessions that may not know; undefined while nobody has listed them since the record was published. */
  readonly sessions: readonly string[] | undefined;
}

export interface FossilRecord {
  readonly generations: readonly Generation[];
  /**
   * Manifests, by `manifestKey`, all of whose chunks were found outside of every condemned pack. Others may rest on what
   * a condemned pack alone has.
   */
  readonly marked: ReadonlySet<string>;
  /** For packs that were condemned, and maybe deleted: the packs that had their live chunks then. */
  readonly successors: ReadonlyMap<PackId, readonly PackId[]>;
}

export const EMPTY_RECORD: FossilRecord = { generations: [], marked: new Set(), successors: new Map() };

/** 1 MiB tells of some ten thousand packs. */
export const MOST_RECORD_BYTES = 256 << 20;

const MAGIC = 'VMARFOSS 1 ';
const DIGEST_CHARACTERS = 64;
const SESSION_ID = /^[0-9a-f]{32}$/;
const KEY_CHARACTERS = 32;

/** A manifest's digest, half of it: nobody makes two manifests of one half on purpose. */
export function manifestKey(digest: Uint8Array): string {
  return Buffer.from(digest).toString('hex', 0, KEY_CHARACTERS / 2);
}

export function encodeRecord({ generations, marked, successors }: FossilRecord): Uint8Array {
  const document = {
    generations: generations.map(({ packs, sessions }) => ({ packs: [...packs], sessions })),
    marked: [...marked],
    successors: [...successors],
  };
  const text = `${JSON.stringify(document)}\n`;
  return Buffer.from(`${MAGIC}${digestOf(text)}\n${text}`);
}

/** @throws DamageError for anything but a whole record. */
export function decodeRecord(bytes: Uint8Array, object: string): FossilRecord {
  const text = Buffer.from(bytes).toString('utf8');
  const headCharacters = MAGIC.length + DIGEST_CHARACTERS;
  if (!text.startsWith(MAGIC) || text[headCharacters] !== '\n') throw damaged('is damaged', object);
  const body = text.slice(headCharacters + 1);
  if (digestOf(body) !== text.slice(MAGIC.length, headCharacters)) throw damaged('does not match its digest', object);
  const record = recordOf(parse(body));
  if (record === undefined) throw damaged('makes no sense', object);
  return record;
}

function damaged(problem: string, object: string): DamageError {
  return new DamageError('fossils-damaged', `the record of packs that gc has condemned ${problem}`, {
    object,
    offsetBytes: 0,
    advice: 'Run `vmar gc`: it makes the record anew.',
  });
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function recordOf(value: unknown): FossilRecord | undefined {
  if (!isObject(value)) return undefined;
  const { generations, marked, successors } = value;
  if (!isListOf(generations, isGeneration) || !isListOf(marked, isKey) || !isListOf(successors, isSuccession)) {
    return undefined;
  }
  return {
    generations: generations.map(({ packs, sessions }) => ({ packs: new Set(packs), sessions })),
    marked: new Set(marked),
    successors: new Map(successors),
  };
}

interface StoredGeneration {
  readonly packs: PackId[];
  readonly sessions: string[] | undefined;
}

function isGeneration(value: unknown): value is StoredGeneration {
  if (!isObject(value) || !isListOf(value.packs, isPack)) return false;
  return value.sessions === undefined || isListOf(value.sessions, isSession);
}

function isSuccession(value: unknown): value is [PackId, PackId[]] {
  return Array.isArray(value) && value.length === 2 && isPack(value[0]) && isListOf(value[1], isPack);
}

function isPack(value: unknown): value is PackId {
  return typeof value === 'string' && isPackId(value);
}

/** Both are 32 hex digits. */
function isSession(value: unknown): value is string {
  return typeof value === 'string' && SESSION_ID.test(value);
}

const isKey = isSession;

function isListOf<Item>(value: unknown, isItem: (item: unknown) => item is Item): value is Item[] {
  return Array.isArray(value) && value.every(isItem);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
