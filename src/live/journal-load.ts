// SPDX-License-Identifier: MIT
// Reads a state file back: what of the target can be trusted.
//
// Guarantees: nothing at or behind the first record that is not whole counts. In the boot that wrote it, all records
// before that count, since the page cache outlives a process. In another boot, that is after a power cut, those count
// that the last checkpoint among them covers: what it covers was durable before it was written. A file of which more
// than its end was lost is refused: it would bring back old data in place of the guest's.

import { isAllZero } from '../base/bytes.js';
import { DirtyBitmap } from '../block/dirty-bitmap.js';
import {
  checkSnapshot,
  decodeHeader,
  type JournalHeader,
  MOST_HEAD_BYTES,
  recordSalt,
  stateDamaged,
} from './journal-header.js';
import { decodeRecord, type JournalRecord, RECORD_BYTES } from './journal-record.js';
import type { StateFile } from './state-file.js';

const READ_BYTES = 32_768 * RECORD_BYTES;

export interface LoadedJournal {
  readonly header: JournalHeader;
  /** What the target holds, as far as it can be trusted. */
  readonly held: DirtyBitmap;
  /** The target holds all, durably. */
  readonly isComplete: boolean;
  /**
   * Where this file can be gone on with; undefined where it cannot: it is of another boot, or of a target that could
   * not be flushed.
   */
  readonly tail: JournalTail | undefined;
}

export interface JournalTail {
  readonly endBytes: number;
  readonly nextSequence: number;
  /** Of the last checkpoint, or before the first record. */
  readonly covered: number;
  readonly recordsStart: number;
}

export async function loadJournal(file: StateFile, path: string, bootId: string): Promise<LoadedJournal> {
  const sizeBytes = await file.sizeBytes();
  const head = Buffer.alloc(Math.min(sizeBytes, MOST_HEAD_BYTES));
  const { header, places } = decodeHeader(head.subarray(0, await file.read(0, head)), path);
  if (places.recordsStart > sizeBytes) throw stateDamaged(path, 'it is cut off within its snapshot');
  const snapshot = Buffer.alloc(header.snapshotBytes);
  await file.read(places.snapshotStart, snapshot);
  checkSnapshot(header, snapshot, path);
  const replay = new Replay(header, snapshot, path, header.bootId === bootId);
  await replay.readAll(file, places.recordsStart, sizeBytes);
  return replay.result(places.recordsStart);
}

type Held = Extract<JournalRecord, { kind: 'held' }>;

class Replay {
  readonly #header: JournalHeader;
  readonly #path: string;
  readonly #isSameBoot: boolean;
  readonly #salt: number;
  /** What checkpoints cover. */
  readonly #held: DirtyBitmap;
  /** What they do not cover yet, by sequence. */
  #uncovered: Held[] = [];
  #next: number;
  #covered: number;
  #state: 'open' | 'distrusted' | 'complete' = 'open';
  /** Where the first slot that is not whole lies, and whether anything is in it. */
  #broken: { readonly offsetBytes: number; readonly isEmpty: boolean } | undefined;

  constructor(header: JournalHeader, snapshot: Uint8Array, path: string, isSameBoot: boolean) {
    this.#header = header;
    this.#path = path;
    this.#isSameBoot = isSameBoot;
    this.#salt = recordSalt(header);
    this.#held = DirtyBitmap.deserialize(snapshot);
    const { lengthBytes, granularityBytes } = this.#held;
    if (lengthBytes !== header.backup.sizeBytes || granularityBytes !== header.granularityBytes) {
      throw stateDamaged(path, 'its snapshot is of another disk');
    }
    this.#next = header.firstSequence;
    this.#covered = header.firstSequence - 1;
  }

  async readAll(file: StateFile, start: number, end: number): Promise<void> {
    const buffer = Buffer.alloc(Math.min(READ_BYTES, end - start));
    for (let at = start; at < end; at += buffer.length) {
      const count = await file.read(at, buffer);
      for (let slot = 0; slot < count; slot += RECORD_BYTES) {
        this.#take(buffer.subarray(0, count), slot, at + slot, start);
      }
    }
  }

  #take(bytes: Uint8Array, slot: number, offsetBytes: number, start: number): void {
    const record = decodeRecord(bytes, this.#salt, slot);
    const expected = this.#header.firstSequence + (offsetBytes - start) / RECORD_BYTES;
    const isWhole = record !== undefined && record.sequence === expected;
    if (this.#broken !== undefined) {
      if (isWhole) this.#lookBehind(record, this.#broken);
    } else if (isWhole) {
      this.#apply(record, offsetBytes);
      this.#next = expected + 1;
    } else {
      this.#broken = { offsetBytes, isEmpty: isAllZero(bytes.subarray(slot, slot + RECORD_BYTES)) };
    }
  }

  /**
   * A whole record behind one that is not. In one boot writes reach the page cache in their order, so that this is
   * damage. A power cut may lose any sector that was not synced, which leaves zeros in its place; but a slot that holds
   * something else, with a checkpoint behind it, was synced and changed later.
   */
  #lookBehind(record: JournalRecord, broken: { offsetBytes: number; isEmpty: boolean }): void {
    const wasSynced = !broken.isEmpty && (record.kind === 'checkpoint' || record.kind === 'complete');
    if (this.#isSameBoot || wasSynced) throw stateDamaged(this.#path, 'a record is damaged', broken.offsetBytes);
  }

  #apply(record: JournalRecord, offsetBytes: number): void {
    // What follows a distrust was never promised.
    if (this.#state === 'distrusted') return;
    switch (record.kind) {
      case 'held':
        this.#checkRange(record, offsetBytes);
        this.#uncovered.push(record);
        return;
      case 'checkpoint':
        this.#covered = Math.max(this.#covered, Math.min(record.covered, record.sequence));
        this.#uncovered = this.#uncovered.filter((held) => !this.#settle(held, this.#covered));
        return;
      case 'distrust':
        this.#state = 'distrusted';
        this.#uncovered = [];
        return;
      case 'complete':
        this.#state = 'complete';
    }
  }

  #settle(held: Held, covered: number): boolean {
    if (held.sequence > covered) return false;
    this.#held.set(held.offsetBytes, held.lengthBytes);
    return true;
  }

  #checkRange({ offsetBytes, lengthBytes }: Held, at: number): void {
    const end = offsetBytes + lengthBytes;
    const isWhole = (edge: number) => edge % this.#held.granularityBytes === 0 || edge === this.#held.lengthBytes;
    if (lengthBytes > 0 && end <= this.#held.lengthBytes && isWhole(offsetBytes) && isWhole(end)) return;
    throw stateDamaged(this.#path, 'a record is of no range of the disk', at);
  }

  result(recordsStart: number): LoadedJournal {
    const isComplete = this.#state === 'complete';
    if (this.#isSameBoot || isComplete) for (const held of this.#uncovered) this.#settle(held, held.sequence);
    const canGoOn = this.#isSameBoot && this.#state === 'open';
    const endBytes = recordsStart + (this.#next - this.#header.firstSequence) * RECORD_BYTES;
    const tail = { endBytes, nextSequence: this.#next, covered: this.#covered, recordsStart };
    return { header: this.#header, held: this.#held, isComplete, tail: canGoOn ? tail : undefined };
  }
}
