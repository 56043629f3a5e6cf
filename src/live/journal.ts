// SPDX-License-Identifier: MIT
// The journal of a live restore: which ranges of the target hold what the guest is to see, so that the restore can be
// gone on with after a crash.
//
// Guarantees:
// 1. Once `record` resolves, the range counts as held for every process of this boot, however this one ends.
// 2. Once `checkpoint` resolves, all that it covers counts after a power cut too.
// 3. What counts never goes beyond what was said: the caller records a range after its data is in the target, and
//    checkpoints what it had recorded before a flush of the target that succeeded.
// 4. A record that was refused does not count, and a state file that cannot be written refuses all that is new.
//
// All records that wait go into the file in one write.

import { FailedError } from '../base/errors.js';
import type { DirtyBitmap } from '../block/dirty-bitmap.js';
import { encodeHeader, type JournalHeader, type JournalIdentity, newJournalId, recordSalt } from './journal-header.js';
import type { JournalTail, LoadedJournal } from './journal-load.js';
import { encodeRecord, type JournalRecord, RECORD_BYTES } from './journal-record.js';
import type { StateFile, StatePlace } from './state-file.js';
import { stateFailure } from './state-place.js';

export interface JournalOptions {
  readonly place: StatePlace;
  readonly identity: JournalIdentity;
  readonly bootId: string;
  /** Makes durable what was written to the target. */
  readonly flushTarget: () => Promise<void>;
  /** A new generation of the file is begun when records take more than this; by default several times the snapshot. */
  readonly compactBytes?: number;
  readonly warn?: (message: string) => void;
}

/** A record without its sequence number, which it gets when it is written. */
type Entry =
  | { readonly kind: 'held'; readonly offsetBytes: number; readonly lengthBytes: number }
  | { readonly kind: 'checkpoint'; readonly covered: number }
  | { readonly kind: 'distrust' }
  | { readonly kind: 'complete' };

interface Batch {
  readonly entries: Entry[];
  readonly done: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

const DEFAULT_COMPACT_BYTES = 4 << 20;
/** A new generation costs as much as its snapshot: it must save more. */
const COMPACT_FACTOR = 4;

export class Journal {
  readonly #options: JournalOptions;
  readonly #held: DirtyBitmap;
  #header: JournalHeader;
  #salt: number;
  #file: StateFile;
  #end: number;
  #next: number;
  /** Sequence number of the last record of a range. */
  #last: number;
  #covered: number;
  /** What came while a write was under way. */
  #waiting: Batch | undefined;
  #writing: Promise<void> | undefined;
  /** Set while no batch may be begun. */
  #isPaused = false;
  /** Written since the snapshot of a generation that is being made. */
  #carried: JournalRecord[] | undefined;
  #compacting: Promise<void> | undefined;
  #compactAt: number;
  readonly #syncing = new Set<Promise<void>>();
  /** Resolves when the file's name is durable. */
  #named: Promise<void> = Promise.resolve();
  #isDistrusted = false;
  /** Why nothing can be recorded any more. */
  #broken: unknown;
  #isClosed = false;

  private constructor(options: JournalOptions, file: StateFile, held: DirtyBitmap, from: JournalStart) {
    this.#options = options;
    this.#file = file;
    this.#held = held;
    this.#header = from.header;
    this.#salt = recordSalt(from.header);
    this.#end = from.endBytes;
    this.#next = from.nextSequence;
    this.#last = from.nextSequence - 1;
    this.#covered = from.covered;
    this.#compactAt = this.#nextCompaction(from.recordsStart);
  }

  /** Begins a state file; once it resolves, that is durable. What `held` says must be durable in the target. */
  static async create(options: JournalOptions, held: DirtyBitmap): Promise<Journal> {
    const { place } = options;
    const file = await place.create();
    try {
      const from = await writeGeneration(file, options, held, 1);
      await file.sync();
      await place.publish();
      await place.syncName();
      return new Journal(options, file, held.snapshot(), from);
    } catch (error) {
      await place.discard();
      await file.close();
      throw stateFailure(place.path, error);
    }
  }

  /** Goes on with a file that was loaded and can be gone on with. Takes it over. */
  static async resume(
    options: JournalOptions,
    file: StateFile,
    { header, held }: LoadedJournal,
    tail: JournalTail,
  ): Promise<Journal> {
    try {
      await file.truncate(tail.endBytes);
    } catch (error) {
      throw stateFailure(options.place.path, error);
    }
    const journal = new Journal(options, file, held.snapshot(), { header, ...tail });
    // The process before this one may have been killed before that.
    journal.#syncName();
    return journal;
  }

  get path(): string {
    return this.#options.place.path;
  }

  /** The last record of a range that is in the file: what a checkpoint covers whose flush begins now. */
  get lastSequence(): number {
    return this.#last;
  }

  /** Whole granules, or up to the end of the disk. The data must be in the target, and nothing may be writing there. */
  record(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.#append({ kind: 'held', offsetBytes, lengthBytes });
  }

  /**
   * Writes nothing where all of it is covered already.
   * @param covered `lastSequence` of before the flush of the target that made this true
   */
  async checkpoint(covered: number): Promise<void> {
    if (covered <= this.#covered || this.#isDistrusted) return;
    await this.#append({ kind: 'checkpoint', covered });
    await this.#sync();
    this.#covered = Math.max(this.#covered, covered);
  }

  /** The target could not be flushed: from here on nothing counts that no checkpoint covers, and no record is taken. */
  async distrust(): Promise<void> {
    if (this.#isDistrusted) return;
    const done = this.#append({ kind: 'distrust' });
    this.#isDistrusted = true;
    await done;
    await this.#sync();
  }

  /** The target holds all, durably. */
  async complete(): Promise<void> {
    await this.#append({ kind: 'complete' });
    await this.#sync();
  }

  /** After it nothing may be recorded. What was acknowledged is in the file. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#compacting;
    while (this.#writing !== undefined) await this.#writing.catch(() => undefined);
    await this.#file.close();
  }

  /** Removes the file; to be called before `close`, so that nobody else can take it in between. */
  async remove(): Promise<void> {
    await this.#compacting;
    await this.#options.place.remove();
  }

  #append(entry: Entry): Promise<void> {
    if (this.#isDistrusted) return Promise.reject(untrusted(this.#header.target.path));
    if (this.#broken !== undefined || this.#isClosed) return Promise.reject(this.#broken ?? closed(this.path));
    this.#waiting ??= newBatch();
    const batch = this.#waiting;
    batch.entries.push(entry);
    this.#writeNext();
    return batch.done;
  }

  #writeNext(): void {
    if (this.#writing !== undefined || this.#waiting === undefined || this.#isPaused) return;
    const batch = this.#waiting;
    this.#waiting = undefined;
    this.#writing = this.#write(batch.entries).then(batch.resolve, batch.reject);
    void this.#writing.then(() => {
      this.#writing = undefined;
      this.#writeNext();
      this.#compactWhenLarge();
    });
  }

  async #write(entries: readonly Entry[]): Promise<void> {
    if (this.#broken !== undefined) throw this.#broken;
    const records = entries.map((entry, index) => ({ ...entry, sequence: this.#next + index }));
    const bytes = encodeAll(records, this.#salt);
    try {
      await this.#file.write(this.#end, bytes);
    } catch (error) {
      await this.#undo(error);
      throw stateFailure(this.path, error);
    }
    this.#end += bytes.byteLength;
    this.#next += records.length;
    for (const record of records) {
      // A new generation would say what is held, but not that nothing is missing.
      if (record.kind === 'complete') this.#compactAt = Number.POSITIVE_INFINITY;
      if (record.kind !== 'held') continue;
      this.#held.set(record.offsetBytes, record.lengthBytes);
      this.#last = record.sequence;
    }
    this.#carried?.push(...records);
  }

  /** Takes back what a failed write has left, so that the refused records do not count. */
  async #undo(error: unknown): Promise<void> {
    try {
      await this.#file.truncate(this.#end);
    } catch {
      this.#broken = stateFailure(this.path, error);
    }
  }

  /** Makes the file durable, and its name with it. */
  async #sync(): Promise<void> {
    const done = this.#syncFile();
    this.#syncing.add(done);
    try {
      await done;
    } catch (error) {
      // The kernel forgets what it could not write: a later sync would lie.
      this.#broken ??= stateFailure(this.path, error);
      throw this.#broken;
    } finally {
      this.#syncing.delete(done);
    }
  }

  async #syncFile(): Promise<void> {
    // A generation that takes over meanwhile has all that this one has, but its name may not be durable yet.
    for (let file: StateFile | undefined; file !== this.#file; ) {
      file = this.#file;
      await file.sync();
      await this.#named;
    }
  }

  #compactWhenLarge(): void {
    if (this.#end < this.#compactAt || this.#compacting !== undefined || this.#isClosed) return;
    if (this.#isDistrusted || this.#broken !== undefined) return;
    this.#compacting = this.#compact()
      .catch((error: unknown) => {
        const why = error instanceof Error ? error.message : String(error);
        this.#options.warn?.(`${this.path} could not be made smaller: ${why}`);
        this.#compactAt = this.#end * 2;
      })
      .finally(() => {
        this.#carried = undefined;
        this.#compacting = undefined;
        this.#isPaused = false;
        this.#writeNext();
      });
  }

  /**
   * Writes a new generation: a snapshot of what was held when a flush of the target began, and the records since. It gets
   * the name when it is durable, with all that the old one has, so that a power cut finds the one or the other.
   */
  async #compact(): Promise<void> {
    const { place, flushTarget } = this.#options;
    const snapshot = this.#held.snapshot();
    const firstSequence = this.#next;
    this.#carried = [];
    await flushTarget();
    const file = await place.create();
    try {
      const from = await writeGeneration(file, this.#options, snapshot, firstSequence);
      await file.sync();
      this.#isPaused = true;
      await this.#writing?.catch(() => undefined);
      const salt = recordSalt(from.header);
      const bytes = encodeAll(this.#carried, salt);
      await file.write(from.endBytes, bytes);
      await file.sync();
      if (this.#isDistrusted || this.#broken !== undefined) throw this.#broken ?? untrusted(place.path);
      await place.publish();
      this.#takeOver(file, from, bytes.byteLength, salt);
    } catch (error) {
      await place.discard();
      await file.close();
      throw error;
    }
  }

  #takeOver(file: StateFile, from: JournalStart, carriedBytes: number, salt: number): void {
    const old = this.#file;
    void Promise.allSettled([...this.#syncing]).then(() => old.close());
    this.#file = file;
    this.#syncName();
    this.#header = from.header;
    this.#salt = salt;
    this.#end = from.endBytes + carriedBytes;
    this.#covered = Math.max(this.#covered, from.covered);
    this.#compactAt = this.#nextCompaction(from.recordsStart);
  }

  #syncName(): void {
    this.#named = this.#options.place.syncName();
    this.#named.catch(() => undefined);
  }

  #nextCompaction(recordsStart: number): number {
    const { compactBytes = Math.max(DEFAULT_COMPACT_BYTES, COMPACT_FACTOR * recordsStart) } = this.#options;
    return recordsStart + compactBytes;
  }
}

/** Where a generation can be gone on with. */
interface JournalStart extends JournalTail {
  readonly header: JournalHeader;
}

async function writeGeneration(
  file: StateFile,
  { identity, bootId }: JournalOptions,
  held: DirtyBitmap,
  firstSequence: number,
): Promise<JournalStart> {
  const { granularityBytes } = held;
  const { header, bytes } = encodeHeader(
    { ...identity, id: newJournalId(), granularityBytes, bootId, firstSequence },
    held.serialize(),
  );
  await file.write(0, bytes);
  const endBytes = bytes.byteLength;
  return { header, endBytes, recordsStart: endBytes, nextSequence: firstSequence, covered: firstSequence - 1 };
}

function encodeAll(records: readonly JournalRecord[], salt: number): Uint8Array {
  const bytes = Buffer.allocUnsafe(records.length * RECORD_BYTES);
  for (const [index, record] of records.entries()) encodeRecord(record, salt, bytes, index * RECORD_BYTES);
  return bytes;
}

function newBatch(): Batch {
  let settle: Pick<Batch, 'resolve' | 'reject'> | undefined;
  const done = new Promise<void>((resolve, reject) => {
    settle = { resolve, reject };
  });
  // Whoever waits is told; who does not, such as an error that came first, need not be.
  done.catch(() => undefined);
  return { entries: [], done, ...settle! };
}

function untrusted(target: string): FailedError {
  return new FailedError('target-untrusted', 'the target could not be flushed, and takes nothing new any more', {
    object: target,
    advice: 'Look in the kernel log for errors of its disk; then start the same command again.',
  });
}

function closed(path: string): FailedError {
  return new FailedError('state-closed', 'the restore is ending', { object: path });
}
