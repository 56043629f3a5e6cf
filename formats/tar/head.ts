// SPDX-License-Identifier: MIT
// The first and the last entry of a tar of ours, and the names of those between them (SPEC.md).

import { fromHex, toHex } from '../../src/base/bytes.js';
import { isSize } from '../../src/base/checked.js';
import { DamageError, FailedError } from '../../src/base/errors.js';
import { MAX_CONFIGS, MAX_DISKS, MAX_LABELS } from '../vmar/limits.js';
import { isConfigName, isName, isNamespace, isTime } from '../vmar/names.js';
import { FORMAT_NAME, PIECE_ALIGNMENT_BYTES, VERSION } from './limits.js';

const KINDS = ['disk', 'vmstate', 'blob'] as const;
const CONSISTENCIES = ['offline', 'crash', 'agent-frozen'] as const;

export interface TarDisk {
  readonly name: string;
  readonly kind: (typeof KINDS)[number];
  readonly sizeBytes: number;
}

export interface TarHead {
  readonly namespace: string;
  readonly guestId: string;
  readonly guestName: string;
  /** 16 bytes, or none. */
  readonly guestUuid: Uint8Array;
  readonly timeSeconds: number;
  readonly source: string;
  /** 16 bytes. */
  readonly sourceUuid: Uint8Array;
  readonly consistency: (typeof CONSISTENCIES)[number];
  readonly disks: readonly TarDisk[];
  /** Their contents are entries. */
  readonly configs: readonly { readonly name: string; readonly sizeBytes: number }[];
  readonly labels: ReadonlyMap<string, string>;
  readonly notes: string;
  readonly isProtected: boolean;
}

export interface TarEnd {
  /** Before the last one. */
  readonly entries: number;
  /** 32 bytes: SHA-256 of the contents of all entries before it, in their order. */
  readonly sha256: Uint8Array;
}

export function encodeTarHead(head: TarHead): Buffer {
  const { guestUuid, sourceUuid, labels, disks, configs, ...plain } = head;
  return encode({
    ...{ format: FORMAT_NAME, version: VERSION, ...plain },
    ...{ guestUuid: toHex(guestUuid), sourceUuid: toHex(sourceUuid) },
    disks: disks.map(({ name, kind, sizeBytes }) => ({ name, kind, size: sizeBytes })),
    configs: configs.map(({ name, sizeBytes }) => ({ name, size: sizeBytes })),
    labels: Object.fromEntries(labels),
  });
}

export function encodeTarEnd({ entries, sha256 }: TarEnd): Buffer {
  return encode({ entries, sha256: toHex(sha256) });
}

function encode(value: unknown): Buffer {
  return Buffer.from(`${JSON.stringify(value, undefined, 1)}\n`);
}

/** @throws DamageError, or FailedError if it is of a newer version or no tar of ours */
export function decodeTarHead(bytes: Uint8Array, file: string): TarHead {
  const value = parse(bytes, file);
  if (value.format !== FORMAT_NAME) throw notOurs(file);
  if (typeof value.version === 'number' && value.version > VERSION) {
    throw new FailedError('newer-version', 'the archive is of a newer version', {
      object: file,
      expected: `${VERSION}`,
      found: `${value.version}`,
      advice: 'Use a newer vmar.',
    });
  }
  const fields = new Fields(value, file);
  return {
    namespace: fields.text('namespace', (text) => text === '' || isNamespace(text)),
    guestId: fields.text('guestId', isName),
    guestName: fields.text('guestName'),
    guestUuid: fields.bytes('guestUuid', [0, 16]),
    timeSeconds: fields.number('timeSeconds', isTime),
    source: fields.text('source'),
    sourceUuid: fields.bytes('sourceUuid', [16]),
    consistency: fields.oneOf('consistency', CONSISTENCIES),
    disks: fields.list('disks', MAX_DISKS, (disk) => ({
      name: disk.text('name', isName),
      kind: disk.oneOf('kind', KINDS),
      sizeBytes: disk.number('size', isSize),
    })),
    configs: fields.list('configs', MAX_CONFIGS, (config) => ({
      name: config.text('name', isConfigName),
      sizeBytes: config.number('size', isSize),
    })),
    labels: fields.labels('labels'),
    notes: fields.text('notes'),
    isProtected: fields.flag('isProtected'),
  };
}

/** @throws DamageError */
export function decodeTarEnd(bytes: Uint8Array, file: string): TarEnd {
  const fields = new Fields(parse(bytes, file), file);
  return { entries: fields.number('entries', isSize), sha256: fields.bytes('sha256', [32]) };
}

export function notOurs(file: string): FailedError {
  return new FailedError('unknown-format', 'this tar is not one that vmar has written', {
    object: file,
    advice: 'Of what vzdump makes, vmar takes the .vma files of virtual machines, and no archives of containers.',
  });
}

type Json = Readonly<Record<string, unknown>>;

function parse(bytes: Uint8Array, file: string): Json {
  try {
    const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
    if (isJson(value)) return value;
  } catch {
    // Said below.
  }
  throw new DamageError('tar-head', 'an entry of the archive that should be JSON is none', { object: file });
}

function isJson(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Fields of untrusted JSON. */
class Fields {
  constructor(
    private readonly value: Json,
    private readonly file: string,
  ) {}

  text(key: string, accepts: (text: string) => boolean = () => true): string {
    const value = this.value[key];
    if (typeof value === 'string' && accepts(value)) return value;
    throw this.#wrong(key);
  }

  number(key: string, accepts: (value: number) => boolean): number {
    const value = this.value[key];
    if (typeof value === 'number' && accepts(value)) return value;
    throw this.#wrong(key);
  }

  flag(key: string): boolean {
    const value = this.value[key];
    if (typeof value === 'boolean') return value;
    throw this.#wrong(key);
  }

  oneOf<T extends string>(key: string, known: readonly T[]): T {
    const found = known.find((each) => each === this.value[key]);
    if (found !== undefined) return found;
    throw this.#wrong(key);
  }

  bytes(key: string, lengths: readonly number[]): Uint8Array {
    const text = this.text(key);
    const bytes = lengths.includes(text.length / 2) ? fromHex(text, text.length / 2) : undefined;
    if (bytes !== undefined) return bytes;
    throw this.#wrong(key);
  }

  /** No two of one name. */
  list<T extends { readonly name: string }>(key: string, most: number, read: (fields: Fields) => T): T[] {
    const value = this.value[key];
    if (!Array.isArray(value) || value.length > most) throw this.#wrong(key);
    const list = value.map((each: unknown) => {
      if (!isJson(each)) throw this.#wrong(key);
      return read(new Fields(each, this.file));
    });
    if (new Set(list.map(({ name }) => name)).size < list.length) throw this.#wrong(key);
    return list;
  }

  labels(key: string): ReadonlyMap<string, string> {
    const value = this.value[key];
    const labels = isJson(value) ? Object.entries(value) : undefined;
    if (labels === undefined || labels.length > MAX_LABELS) throw this.#wrong(key);
    return new Map(
      labels.map(([name, text]) => {
        if (name === '' || typeof text !== 'string') throw this.#wrong(key);
        return [name, text];
      }),
    );
  }

  #wrong(key: string): DamageError {
    return new DamageError('tar-head', `the field ${key} in an entry of the archive is wrong`, { object: this.file });
  }
}

export function configEntryName(name: string): string {
  return `configs/${name}`;
}

export function pieceEntryName(disk: string, offsetBytes: number): string {
  return `disks/${disk}/${String(offsetBytes).padStart(OFFSET_DIGITS, '0')}.raw`;
}

const OFFSET_DIGITS = 16;
const PIECE = /^disks\/([^/]+)\/(\d{16})\.raw$/;

/** undefined if it is no piece of a disk. */
export function parsePieceName(name: string): { disk: string; offsetBytes: number } | undefined {
  const match = PIECE.exec(name);
  if (match === null) return undefined;
  const offsetBytes = Number(match[2]);
  if (!isSize(offsetBytes) || offsetBytes % PIECE_ALIGNMENT_BYTES !== 0) return undefined;
  return { disk: match[1] ?? '', offsetBytes };
}
