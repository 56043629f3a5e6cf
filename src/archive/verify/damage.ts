// SPDX-License-Identifier: MIT
// What verify found, and whom it concerns.

import { chunkKey } from '../chunk-key.js';

/** What is damaged, in the words of the format. */
export type DamageKind =
  | 'superblock'
  | 'container'
  | 'table'
  | 'extent'
  | 'frame'
  | 'chunk'
  | 'read-error'
  | 'manifest'
  | 'sidecar'
  | 'fossils'
  | 'job-report'
  | 'verify-history'
  | 'damage-list'
  /** Found before, and not looked at again. */
  | 'known'
  | 'map-page'
  | 'missing-chunk'
  /** Of .vma files. */
  | 'vma-header'
  | 'vma-extent'
  | 'vma-cluster'
  | 'vma-cut'
  | 'vma-incomplete'
  | 'compression';

export interface DamageRecord {
  readonly file: string;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly kind: DamageKind;
  /** A short sentence: what was expected and found. */
  readonly problem: string;
  /** Names of the backups that need what is damaged. */
  readonly backups: Set<string>;
  /** `BACKUP:DISK` of each disk that needs it. */
  readonly disks: Set<string>;
}

export interface Checked {
  packs: number;
  extents: number;
  frames: number;
  chunks: number;
  /** Bytes of containers that were read and checked. */
  storedBytes: number;
  /** Bytes of content that were hashed again. */
  rawBytes: number;
  backups: number;
  disks: number;
  mapPages: number;
  /** Of .vma files: that each is there, once. */
  clusters: number;
}

export interface VerifyReport {
  readonly checked: Checked;
  readonly damage: readonly DamageRecord[];
}

export function nothingChecked(): Checked {
  return {
    packs: 0,
    extents: 0,
    frames: 0,
    chunks: 0,
    storedBytes: 0,
    rawBytes: 0,
    backups: 0,
    disks: 0,
    mapPages: 0,
    clusters: 0,
  };
}

/** Collects damage, and remembers which chunks each piece of it makes unreadable. */
export class DamageList {
  readonly records: DamageRecord[] = [];
  /** By id as a latin1 string: indices of the records that made the chunk unreadable. */
  readonly #byChunk = new Map<string, number[]>();
  readonly #byPlace = new Map<string, number>();
  readonly #byFile = new Map<string, number[]>();

  add(record: Omit<DamageRecord, 'backups' | 'disks'>, lostIds: Iterable<Uint8Array> = []): number {
    const index = this.records.length;
    this.records.push({ ...record, backups: new Set(), disks: new Set() });
    this.#byPlace.set(`${record.offsetBytes}@${record.file}`, index);
    const inFile = this.#byFile.get(record.file);
    if (inFile === undefined) this.#byFile.set(record.file, [index]);
    else inFile.push(index);
    for (const id of lostIds) this.attach(index, id);
    return index;
  }

  /** Says that a record makes one more chunk unreadable. */
  attach(index: number, id: Uint8Array): void {
    const key = chunkKey(id);
    const list = this.#byChunk.get(key);
    if (list === undefined) this.#byChunk.set(key, [index]);
    else if (list.at(-1) !== index) list.push(index);
  }

  /** The records that concern a chunk, or a manifest by its digest. */
  of(id: Uint8Array): readonly number[] {
    return this.#byChunk.size === 0 ? [] : (this.#byChunk.get(chunkKey(id)) ?? []);
  }

  /** The records of a file. */
  in(file: string): readonly number[] {
    return this.#byFile.get(file) ?? [];
  }

  /** The record of what begins at an offset of a file. */
  at(file: string | undefined, offsetBytes: number | undefined): number | undefined {
    return this.#byPlace.get(`${offsetBytes ?? 0}@${file}`);
  }

  touch(index: number, backup: string, disk: string | undefined): void {
    const record = this.records[index];
    record?.backups.add(backup);
    if (disk !== undefined) record?.disks.add(`${backup}:${disk}`);
  }
}
