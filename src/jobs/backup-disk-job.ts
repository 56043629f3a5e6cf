// SPDX-License-Identifier: MIT
// The backup of one disk: what its background loop does, and how guests are held back meanwhile.

import type { Limiter } from '../base/bounded-queue.js';
import { UsageError } from '../base/errors.js';
import { BlockNode } from '../block/block-node.js';
import { ALL_PERMISSIONS, type Claim, claim } from '../block/claims.js';
import type { BlockDevice } from '../block/device.js';
import type { DirtyRange } from '../block/dirty-bitmap.js';
import { grew, shrank } from '../block/file-errors.js';
import { CopyBeforeWrite, type CopyFailurePolicy } from '../block/filters/copy-before-write.js';
import { isMeasured } from '../block/measured-device.js';
import type { TrackedRequest } from '../block/request-list.js';
import { BackupLoop } from './backup-loop.js';
import { type BackupSync, checkSync, takeSync } from './backup-sync.js';
import type { ClusterTarget } from './backup-target.js';
import { ClusterCopy, type CopyFailure } from './cluster-copy.js';
import { Job, type JobOptions } from './job.js';

/** The source is written to by others of this process meanwhile, all through its BlockNode. */
export interface LiveSource {
  readonly policy: CopyFailurePolicy;
  /** How long a guest's request may wait for the copying of what it changes; by default for ever. */
  readonly timeoutMillis?: number;
}

export interface DiskBackupOptions extends JobOptions {
  /** Not closed. For a live one a BlockNode. */
  readonly source: BlockDevice;
  readonly target: ClusterTarget;
  /** `full` if untold. */
  readonly sync?: BackupSync;
  /** Untold: nobody writes to the source. */
  readonly live?: LiveSource;
  /** Background loops that share it run one after another. */
  readonly turn?: Limiter;
}

interface Attached {
  readonly copy: ClusterCopy;
  /** What the copying reads: below the filter. */
  readonly below: BlockDevice;
  readonly filter: CopyBeforeWrite | undefined;
  readonly unchanged: Iterable<DirtyRange>;
  readonly giveBack: () => void;
}

/**
 * Copies a disk as it was when the job was attached, whatever guests do meanwhile: each cluster once, by the loop or
 * before a guest changes it. It reports completion when no copy is under way any more and the filter is out.
 *
 * While paused only the loop stands still. From the moment that the job fails or is cancelled guests are held back no
 * more.
 */
export class DiskBackupJob extends Job {
  readonly #options: DiskBackupOptions;
  readonly #source: BlockDevice;
  readonly #target: ClusterTarget;
  readonly #sync: BackupSync;
  readonly #claims: Claim[] = [];
  #isDetached = false;
  #attaching: Promise<void> | undefined;
  #attached: Attached | undefined;
  #complete = () => {};
  readonly #completed: Promise<void>;

  /** @throws UsageError where source, target and mode do not go together */
  constructor(options: DiskBackupOptions) {
    const { source, target, sync = { mode: 'full' } } = options;
    super('backup', options, sync.mode === 'none' ? 0 : source.lengthBytes);
    checkSync(sync, source, target, options.live !== undefined);
    if (options.live && !(source instanceof BlockNode)) {
      throw new UsageError('not-a-node', 'a live source is one that a filter can be put into', { object: source.name });
    }
    this.#options = options;
    this.#source = source;
    this.#target = target;
    this.#sync = sync;
    this.#completed = new Promise((resolve) => {
      this.#complete = resolve;
    });
  }

  get source(): BlockDevice {
    return this.#source;
  }

  get isLive(): boolean {
    return this.#options.live !== undefined;
  }

  /**
   * Fixes the moment that the backup shows. Done at the start unless it was done before.
   * @throws BusyError where somebody else uses source or target in a way that does not go together
   */
  attach(): Promise<void> {
    this.#attaching ??= this.#attach();
    return this.#attaching;
  }

  async #attach(): Promise<void> {
    if (this.error !== undefined) throw this.error;
    this.#claim();
    const { live } = this.#options;
    if (!live || !(this.#source instanceof BlockNode)) {
      this.#attached = this.#takeOver(this.#source, undefined);
      return;
    }
    const { policy, timeoutMillis } = live;
    await this.#source.insertFilter((below) => {
      const filter = new CopyBeforeWrite(below, {
        policy,
        copyBefore: (offset, length) => this.#copyBefore(offset, length),
        onBroken: (error) => this.fail(error),
        ...(timeoutMillis === undefined ? {} : { timeout: { millis: timeoutMillis, clock: this.clock } }),
      });
      this.#attached = this.#takeOver(below, filter);
      return filter;
    });
  }

  #takeOver(below: BlockDevice, filter: CopyBeforeWrite | undefined): Attached {
    const { remaining, unchanged, giveBack } = takeSync(this.#sync, this.#source.lengthBytes, this.#target);
    const copy = new ClusterCopy({
      source: below,
      target: this.#target,
      remaining,
      lease: () => this.#lease(),
      onCopied: (how, bytes) => this.#count(how, bytes),
    });
    return { copy, below, filter, unchanged, giveBack };
  }

  #claim(): void {
    const who = `job ${this.id}`;
    const shares = this.isLive ? ALL_PERMISSIONS : ALL_PERMISSIONS.filter((permission) => permission !== 'write');
    this.#claims.push(claim(this.#source, who, ['consistent-read'], shares));
    const target = this.#target.claim?.(who);
    if (target) this.#claims.push(target);
  }

  /**
   * Resolves when no copy of the range is under way, nor a reader in it; undefined if that is now. For others who read
   * the source together with the target of a backup with sync=none, after QEMU's backup_wait_for_overlapping_requests.
   */
  waitForOverlapping(offsetBytes: number, lengthBytes: number): Promise<void> | undefined {
    return this.#running().copy.requests.waitForOverlapping(offsetBytes, lengthBytes);
  }

  /**
   * Makes a reader take part in the list of copies: until its `end` nothing of the range is copied out, and no guest
   * changes what was not copied before.
   */
  beginRequest(offsetBytes: number, lengthBytes: number): TrackedRequest | Promise<TrackedRequest> {
    return this.#running().copy.requests.begin(offsetBytes, lengthBytes);
  }

  /**
   * For sync=none: forgets what was copied, so that the next change of each cluster is copied anew. In between no guest's
   * request is under way. `meanwhile` runs in that moment: it empties the target.
   */
  async checkpoint(meanwhile?: () => Promise<void>): Promise<void> {
    const { copy } = this.#running();
    if (this.#sync.mode !== 'none' || !(this.#source instanceof BlockNode)) {
      throw new UsageError('bad-sync', `job ${this.id} is not one that copies changes only`, { object: this.id });
    }
    await this.#source.drained(async () => {
      // A copy that took too long may outlive the request that it was for.
      await copy.settled();
      await meanwhile?.();
      copy.startOver();
    });
  }

  #running(): Attached {
    if (this.#attached && !this.error && this.status !== 'concluded') return this.#attached;
    throw new UsageError('job-not-running', `job ${this.id} is not running`, { object: this.id });
  }

  protected override async run(): Promise<void> {
    await this.attach();
    const { copy } = this.#running();
    try {
      if (this.#sync.mode === 'none') await this.#follow();
      else await this.#copyInTurn();
    } finally {
      // Guests may be about to change something in this very moment.
      await copy.settled();
    }
    await this.#detach();
    await this.#target.flush();
  }

  /** Guests do the work. */
  async #follow(): Promise<void> {
    await this.becomeReady();
    await this.interruptible(this.#completed);
  }

  protected override async onComplete(): Promise<void> {
    this.#complete();
  }

  async #copyInTurn(): Promise<void> {
    const { turn } = this.#options;
    const place = turn?.enter();
    try {
      if (place) await this.interruptible(place);
      await this.#copyAll();
    } finally {
      if (place) void place.then(() => turn?.leave());
      else turn?.leave();
    }
  }

  async #copyAll(): Promise<void> {
    const { copy, below, unchanged } = this.#running();
    const loop = new BackupLoop({
      copy,
      source: below,
      target: this.#target,
      clock: this.clock,
      signal: this.signal,
      isAlone: !this.isLive,
      lease: () => this.#lease(),
      pausePoint: () => this.pausePoint(),
      isPaused: () => this.isPaused,
      admit: (bytes) => this.admit(bytes),
      interruptible: (promise) => this.interruptible(promise),
      decide: (failure) => this.#decide(failure),
      fail: (error) => this.fail(error),
    });
    try {
      for (const range of unchanged) {
        await this.pausePoint();
        await this.interruptible(this.#target.keep(range.offsetBytes, range.lengthBytes));
        this.#count('kept', range.lengthBytes);
      }
      if (this.#sync.mode === 'top' && this.#target.holdsUnchanged) await loop.keepBacked();
      await loop.run();
    } finally {
      await loop.settled();
    }
  }

  async #decide({ where, error }: CopyFailure): Promise<'retry' | 'ignore'> {
    if (where === 'target' && this.#target.failsForGood) this.fail(error);
    return await this.onError(where, error);
  }

  /** For a guest's request; resolves when that may go on. */
  #copyBefore(offsetBytes: number, lengthBytes: number): Promise<void> | undefined {
    if (this.error !== undefined) return undefined;
    const copying = this.#attached?.copy.copyBefore(offsetBytes, lengthBytes);
    return copying?.then((failure) => this.#afterCopy(failure));
  }

  #afterCopy(failure: CopyFailure | undefined): void {
    if (!failure) return;
    // The backup is lost whether this request fails or not, so it may as well go on.
    if (failure.where === 'target' && this.#target.failsForGood) this.fail(failure.error);
    if (this.error === undefined) throw failure.error;
  }

  async #lease(): Promise<Uint8Array> {
    const lease = this.#target.lease();
    try {
      return await this.interruptible(lease);
    } catch (error) {
      // It may still be granted.
      lease.then((slot) => this.#target.release(slot)).catch(() => {});
      throw error;
    }
  }

  #count(how: 'read' | 'zero' | 'kept', bytes: number): void {
    if (this.#sync.mode === 'none') this.counter.addTotal(bytes);
    if (how === 'read') this.counter.addRead(bytes);
    else if (how === 'zero') this.counter.addZero(bytes);
    else this.counter.addUnchanged(bytes);
  }

  protected override wake(): void {
    if (this.error !== undefined) this.#attached?.filter?.turnOff();
  }

  async #detach(): Promise<void> {
    const filter = this.#attached?.filter;
    if (!filter || this.#isDetached || !(this.#source instanceof BlockNode)) return;
    this.#isDetached = true;
    await this.#source.removeFilter(filter);
  }

  /** It may have been there for hours: a file that changed its length is not what was backed up. */
  protected override async prepare(): Promise<void> {
    if (!isMeasured(this.#source)) return;
    const { name, lengthBytes } = this.#source;
    const now = await this.#source.lengthNow();
    if (now < lengthBytes) throw shrank(name, now, lengthBytes, now);
    if (now > lengthBytes) throw grew(name, lengthBytes, now);
  }

  protected override async abort(): Promise<void> {
    // It may have been cancelled in the middle of attaching, or after that and before it ran.
    await this.#attaching?.catch(() => {});
    this.#attached?.filter?.turnOff();
    await this.#attached?.copy.settled();
    this.#attached?.giveBack();
  }

  protected override async clean(): Promise<void> {
    try {
      await this.#detach();
    } finally {
      for (const held of this.#claims.splice(0)) held.release();
    }
  }
}

/** Attaches jobs so that all show one moment: while it does, no guest's request is under way in any of the sources. */
export async function attachTogether(jobs: readonly DiskBackupJob[]): Promise<void> {
  const nodes = new Set<BlockNode>();
  for (const { isLive, source } of jobs) if (isLive && source instanceof BlockNode) nodes.add(source);
  let attachAll = async () => {
    for (const job of jobs) await job.attach();
  };
  for (const node of nodes) {
    const inner = attachAll;
    attachAll = () => node.drained(inner);
  }
  await attachAll();
}
