// SPDX-License-Identifier: MIT
// One disk that is restored while its guest runs: target, journal, alloc-track over the backup, and the job that fills.
//
// Guarantees: a write is acknowledged after its data is in the target and its record in the journal. Damage of the
// backup fails the reads of its range alone, and is never put on the target, nor zeros in its place; what the guest
// writes there heals it.

import type { Clock } from '../base/clock.js';
import { DamageError, VmarError } from '../base/errors.js';
import { BlockNode } from '../block/block-node.js';
import type { BlockDevice } from '../block/device.js';
import { DirtyBitmap } from '../block/dirty-bitmap.js';
import type { AllocTrack } from '../block/filters/alloc-track.js';
import { insertBacking, NodeStreamJob } from '../jobs/stream-node.js';
import type { LiveState } from './live-state.js';
import { PatientBacking } from './patient-backing.js';

export interface ByteRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** What a disk tells of itself. */
export interface LiveDiskListener {
  onDamaged(disk: LiveDisk, range: ByteRange, error: DamageError): void;
  onAway(disk: LiveDisk, error: VmarError, awaySeconds: number): void;
  onBack(disk: LiveDisk, awaySeconds: number): void;
  /** Filling has stopped, goes on, or is done: see `progress`. */
  onChange(disk: LiveDisk): void;
}

/** How far filling has come, and why it stands still. */
export type FillState =
  | { readonly kind: 'filling' }
  /** Until the guest has overwritten what is damaged. */
  | { readonly kind: 'damaged'; readonly error: unknown }
  /** It is tried again soon. */
  | { readonly kind: 'stopped'; readonly error: unknown }
  /** It cannot be gone on with by this process. */
  | { readonly kind: 'failed'; readonly error: unknown }
  | { readonly kind: 'filled' };

/** After an error of the target, such as that it is full. */
const RETRY_MILLIS = 10_000;
/** A guest that overwrites what is damaged does so in many writes: one look after some of them. */
const LOOK_MILLIS = 100;

export interface LiveDiskOptions {
  readonly name: string;
  readonly state: LiveState;
  /** The disk in the backup; undefined where the target holds all. Not closed. */
  readonly backing: BlockDevice | undefined;
  readonly clusterSizeBytes: number;
  readonly clock: Clock;
  readonly listener: LiveDiskListener;
}

export class LiveDisk {
  readonly name: string;
  /** What the guest uses. */
  readonly node: BlockNode;
  readonly state: LiveState;
  readonly #options: LiveDiskOptions;
  readonly #stop = new AbortController();
  /** Damage that was told, by cluster. */
  readonly #told: DirtyBitmap;
  #filter: AllocTrack | undefined;
  #job: NodeStreamJob | undefined;
  #fill: FillState;
  /** Of the pass of the job that stopped last. */
  #damage: ByteRange[] = [];
  #isLooking = false;
  #filling: Promise<void> | undefined;
  #onRest: (() => void) | undefined;

  private constructor(options: LiveDiskOptions) {
    this.#options = options;
    this.name = options.name;
    this.state = options.state;
    this.node = new BlockNode(options.state.target);
    this.#told = new DirtyBitmap(this.lengthBytes, options.clusterSizeBytes);
    this.#fill = { kind: options.state.filling === undefined ? 'filled' : 'filling' };
  }

  static async open(options: LiveDiskOptions): Promise<LiveDisk> {
    const disk = new LiveDisk(options);
    await disk.#insert();
    return disk;
  }

  async #insert(): Promise<void> {
    const { backing, clock, listener, state } = this.#options;
    if (state.filling === undefined || backing === undefined) return;
    const { journal, held, targetIsZero } = state.filling;
    const patient = new PatientBacking(backing, {
      clock,
      signal: this.#stop.signal,
      onAway: (error, seconds) => listener.onAway(this, error, seconds),
      onBack: (seconds) => listener.onBack(this, seconds),
      onDamaged: (error) => this.#meetDamage(error),
    });
    this.#filter = await insertBacking(this.node, patient, {
      held,
      targetIsZero,
      copyOnRead: true,
      onHeld: (offsetBytes, lengthBytes) => this.#record(journal.record(offsetBytes, lengthBytes)),
    });
  }

  get lengthBytes(): number {
    return this.state.target.lengthBytes;
  }

  get heldBytes(): number {
    return this.#fill.kind === 'filled' ? this.lengthBytes : (this.#filter?.held.dirtyBytes ?? 0);
  }

  get fill(): FillState {
    return this.#fill;
  }

  /**
   * Fills what is missing; the guest's requests come first. Resolves when all is held, or when only what cannot be read
   * is left. Never rejects: see `fill`.
   */
  async fillUp(speedBytesPerSecond: number): Promise<void> {
    const filter = this.#filter;
    if (this.#fill.kind === 'filled' || filter === undefined || this.#stop.signal.aborted) return;
    const rested = new Promise<void>((resolve) => {
      this.#onRest = resolve;
    });
    this.#filling = this.#runJob(filter, speedBytesPerSecond);
    await rested;
  }

  async #runJob(filter: AllocTrack, speedBytesPerSecond: number): Promise<void> {
    const job = new NodeStreamJob({
      id: `live-${this.name}`,
      clock: this.#options.clock,
      speedBytesPerSecond,
      node: this.node,
      filter,
      onError: 'stop',
      narrowestBytes: this.#options.clusterSizeBytes,
      yieldTo: () => this.node.whenIdle(),
      onDamaged: (range) => this.#damage.push(range),
      onIoError: ({ error }) => this.#stopped(error),
    });
    this.#job = job;
    job.start();
    try {
      await job.finished;
      // The flush at the end of the job covers all records.
      await this.state.filling?.journal.complete();
      this.state.target.journal = undefined;
      this.#change({ kind: 'filled' });
    } catch (error) {
      if (this.#stop.signal.aborted) this.#onRest?.();
      else this.#change({ kind: 'failed', error });
    } finally {
      this.#job = undefined;
    }
  }

  #meetDamage(error: DamageError): void {
    const { clusterSizeBytes, listener } = this.#options;
    const offsetBytes = error.offsetBytes ?? 0;
    const range = { offsetBytes, lengthBytes: Math.min(clusterSizeBytes, this.lengthBytes - offsetBytes) };
    if (range.lengthBytes <= 0 || this.#told.get(offsetBytes)) return;
    this.#told.set(range.offsetBytes, range.lengthBytes);
    listener.onDamaged(this, range, error);
  }

  #stopped(error: unknown): void {
    if (error instanceof DamageError) {
      this.#change({ kind: 'damaged', error });
      this.#lookSoon();
    } else if (error instanceof VmarError && error.code === 'target-untrusted') {
      this.#change({ kind: 'failed', error });
    } else {
      this.#change({ kind: 'stopped', error });
      void this.#after(RETRY_MILLIS, () => this.#goOn());
    }
  }

  #goOn(): void {
    this.#damage = [];
    this.#change({ kind: 'filling' });
    this.#job?.resume();
  }

  async #record(recorded: Promise<void>): Promise<void> {
    await recorded;
    if (this.#fill.kind === 'damaged') this.#lookSoon();
  }

  /** Looks whether the guest has overwritten all that is damaged. */
  #lookSoon(): void {
    if (this.#isLooking) return;
    this.#isLooking = true;
    void this.#after(LOOK_MILLIS, () => {
      this.#isLooking = false;
      const held = this.#filter?.held;
      if (this.#fill.kind !== 'damaged' || held === undefined) return;
      const isHealed = this.#damage.every(
        ({ offsetBytes, lengthBytes }) => held.nextClean(offsetBytes, offsetBytes + lengthBytes) === undefined,
      );
      if (isHealed) this.#goOn();
    });
  }

  async #after(millis: number, action: () => void): Promise<void> {
    try {
      await this.#options.clock.sleep(millis, this.#stop.signal);
    } catch {
      return;
    }
    action();
  }

  #change(fill: FillState): void {
    this.#fill = fill;
    if (fill.kind !== 'filling' && fill.kind !== 'stopped') this.#onRest?.();
    this.#options.listener.onChange(this);
  }

  /**
   * To be called when no guest is connected any more. Ends filling and what waits for the backup, makes durable what is
   * there, and closes; the state file is removed where all was filled, unless it is to stay.
   * @throws what the last flush failed with, when all is closed
   */
  async close({ keepState }: { readonly keepState: boolean }): Promise<void> {
    this.#stop.abort();
    this.#job?.cancel({ force: true });
    await this.#filling;
    const flushed = await this.node.flush().then(
      () => undefined,
      (error: unknown) => ({ error }),
    );
    const removeState = this.#fill.kind === 'filled' && !flushed && !keepState;
    await this.node.drained(() => this.state.close({ removeState }));
    if (flushed) throw flushed.error;
  }

  /** Instead of `close`, before anybody was connected: what was made for this restore is removed. */
  async abandon(): Promise<void> {
    this.#stop.abort();
    await this.state.abandon();
  }
}
