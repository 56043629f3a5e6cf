// SPDX-License-Identifier: MIT
// Restores disks while their guest runs on them: exports them at once, and fills the targets behind the guest's back.
//
// Guarantees: whenever the process ends, the same call goes on where it stood, with every write that a guest was told
// of; see journal.ts for what counts after a kill and after a power cut. Nothing is exported before every target and
// state file was looked at. A target is told to be filled only when it is, durably.

import { BackupDisk } from '../archive/backup-disk.js';
import { findDisk } from '../archive/find-disk.js';
import type { OpenBackup } from '../archive/open-backup.js';
import { toHex } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import { BusyError, VmarError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { NbdServer } from '../nbd/server/nbd-server.js';
import type { Executor } from '../pipeline/executor.js';
import { checkDistinct, type NamedPlace } from './distinct-places.js';
import type { JournalIdentity } from './journal-header.js';
import { LiveClients } from './live-clients.js';
import { type ByteRange, LiveDisk, type LiveDiskListener } from './live-disk.js';
import type { LiveEvent } from './live-event.js';
import { type LiveState, openLiveState, statePathOf } from './live-state.js';
import { newStatePath } from './state-place.js';
import type { GuestMover } from './switch/guest-mover.js';
import { switchDiskOf } from './switch/live-switch-disk.js';

export type { LiveEvent } from './live-event.js';

export interface LiveAssignment {
  readonly disk: string;
  /** The path of a file or block device. */
  readonly target: string;
  /** Undefined: the default place. */
  readonly statePath: string | undefined;
}

/** A disk of which an earlier process said that its target holds all. */
export interface CompleteAssignment extends LiveAssignment {
  /** As the state file has it. */
  readonly backup: JournalIdentity['backup'];
}

/** Disks and the backup that they come from; or disks that need none any more. */
export type LiveSource =
  | {
      readonly kind: 'backup';
      readonly backup: OpenBackup;
      /** Reads and decompresses. */
      readonly executor: Executor;
      readonly assignments: readonly LiveAssignment[];
    }
  | { readonly kind: 'complete'; readonly assignments: readonly CompleteAssignment[] };

type BackupSource = Extract<LiveSource, { kind: 'backup' }>;

export interface LiveRestoreOptions {
  readonly socketPath: string;
  readonly overwrite: boolean;
  readonly targetIsZero: boolean;
  /** Of all disks together; 0 is no limit. */
  readonly speedBytesPerSecond: number;
  /** End once all is filled, whoever is connected. Otherwise once it is, and the last client has left. */
  readonly exitWhenDone: boolean;
  /** Tells this boot from another. */
  readonly bootId: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Move the guest to the targets once all is filled, and end then. */
  readonly mover?: GuestMover | undefined;
  /** Stops it: what is there is made durable, state files stay. */
  readonly signal: AbortSignal;
  readonly onEvent: (event: LiveEvent) => void;
}

/** How it ended: all filled; or with damage that no guest has overwritten; or told to stop before. */
export type LiveOutcome =
  | { readonly kind: 'done' }
  | { readonly kind: 'damaged' }
  | { readonly kind: 'failed'; readonly error: unknown }
  | { readonly kind: 'interrupted' };

/** With what filling takes below 400 MB, whatever clients ask for and do not read. */
const LIMITS = { bytesPerServer: 128 << 20, bytesPerConnection: 48 << 20 };
const PROGRESS_MILLIS = 1000;
/** For requests in flight when the exports go away. */
const CLOSE_MILLIS = 2000;
/** QEMU's longest pause between two attempts to connect, and a little more. */
const RECONNECT_MILLIS = 20_000;

/** The source stays the caller's. @throws whatever keeps it from listening: nothing was changed then. Later errors are told by outcome and events. */
export async function liveRestore(source: LiveSource, options: LiveRestoreOptions): Promise<LiveOutcome> {
  const restore = new LiveRestore(options);
  await restore.open(source);
  return await restore.run();
}

class LiveRestore implements LiveDiskListener {
  readonly #options: LiveRestoreOptions;
  readonly #startMillis: number;
  readonly #disks: LiveDisk[] = [];
  readonly #clients: LiveClients;
  /** Ends the waiting of this object. */
  readonly #over = new AbortController();
  #server: NbdServer | undefined;
  #end: (outcome: LiveOutcome) => void = () => undefined;
  readonly #ended = new Promise<LiveOutcome>((resolve) => {
    this.#end = resolve;
  });
  #onFilled: () => void = () => undefined;

  constructor(options: LiveRestoreOptions) {
    this.#options = options;
    this.#startMillis = options.clock.monotonicMillis();
    this.#clients = new LiveClients(options.clock, this.#over.signal, () => this.#look());
  }

  async open(source: LiveSource): Promise<void> {
    if (source.kind === 'backup') this.#endSearch = () => source.backup.source.endSearch?.();
    const { clock, socketPath, log } = this.#options;
    await checkDistinct([{ path: socketPath, use: 'socket' }, ...(await placesOf(source.assignments))]);
    try {
      if (source.kind === 'complete') {
        for (const assignment of source.assignments) this.#disks.push(await this.#openComplete(assignment));
      } else {
        for (const assignment of source.assignments) this.#disks.push(await this.#openDisk(source, assignment));
      }
      const exports = this.#disks.map(({ name, node }) => ({ name, device: node, readOnly: false }));
      const server = new NbdServer({ exports, limits: LIMITS, clock, log });
      server.onClient = () => {
        this.#clients.count = server.clientCount;
      };
      await server.listenUnix(socketPath);
      this.#server = server;
    } catch (error) {
      for (const disk of this.#disks) await disk.abandon();
      throw error;
    }
  }

  async #openDisk({ backup, executor }: BackupSource, assignment: LiveAssignment): Promise<LiveDisk> {
    const { clock, log } = this.#options;
    const disk = findDisk(backup.manifest, assignment.disk);
    const state = await this.#openState(assignment, {
      ...{ name: backup.name, digest: toHex(backup.digest), disk: disk.name, sizeBytes: disk.sizeBytes },
      mapRoot: toHex(disk.mapRoot),
    });
    const backing = state.filling && new BackupDisk(backup, disk, { executor, log });
    const { clusterSizeBytes } = disk;
    return await LiveDisk.open({ name: disk.name, state, backing, clusterSizeBytes, clock, listener: this });
  }

  async #openComplete(assignment: CompleteAssignment): Promise<LiveDisk> {
    const { clock } = this.#options;
    const { disk: name, name: object } = assignment.backup;
    const state = await this.#openState(assignment, assignment.backup);
    if (state.filling !== undefined) {
      await state.abandon();
      throw new BusyError('state-in-use', 'the state file was changed just now', { object: state.statePath });
    }
    this.#options.log.debug(`${name} holds all: ${object} is not needed`);
    return await LiveDisk.open({ name, state, backing: undefined, clusterSizeBytes: 1 << 16, clock, listener: this });
  }

  #openState({ target, statePath }: LiveAssignment, backup: JournalIdentity['backup']): Promise<LiveState> {
    const { bootId, overwrite, targetIsZero, log } = this.#options;
    const warn = (text: string) => log.warn(text);
    return openLiveState({ targetPath: target, statePath, overwrite, targetIsZero, bootId, warn, backup });
  }

  /** What is lost need not be looked for any more. */
  #endSearch = (): void => {};

  async run(): Promise<LiveOutcome> {
    const { signal, mover } = this.#options;
    const stop = () => this.#stop();
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) stop();
    this.#tellListening();
    const filling = this.#fillAll();
    const moving = mover && this.#move(mover, AbortSignal.any([signal, this.#over.signal]));
    const progress = this.#tellProgress();
    try {
      const outcome = await this.#ended;
      return (await this.#close(filling, outcome)) ?? outcome;
    } finally {
      this.#over.abort();
      await progress;
      await moving;
      signal.removeEventListener('abort', stop);
    }
  }

  /** A guest that is to be moved rests on us until it is: the same command goes on with that. */
  #stop(): void {
    const { mover } = this.#options;
    if (mover?.isAtWork === true) return;
    this.#endSearch();
    this.#end({ kind: this.#isFilled && mover === undefined ? 'done' : 'interrupted' });
  }

  /** Moves the guest once all is filled. Whoever is stopped in the middle of it ends when it is clear where the guest is. */
  async #move(mover: GuestMover, signal: AbortSignal): Promise<void> {
    const { socketPath, log, onEvent } = this.#options;
    const ahead = mover.lookAhead(signal);
    await this.#whenFilled(signal);
    const isOnly = this.#disks.length === 1;
    const disks = this.#disks.map((disk) => switchDiskOf(disk, socketPath, isOnly, log));
    try {
      await ahead;
      await this.#untilConnected(signal);
      const report = await mover.move(disks, signal, () => this.#look());
      if (report === undefined) return this.#end({ kind: 'interrupted' });
      onEvent({ kind: 'switched', ...report });
      this.#end({ kind: 'done' });
    } catch (error) {
      this.#end({ kind: 'failed', error });
    }
  }

  /** One disk after the other, so that all of them share the speed. */
  async #fillAll(): Promise<void> {
    for (const disk of this.#disks) await disk.fillUp(this.#options.speedBytesPerSecond);
  }

  /** QEMU looks for a server that was killed every few seconds; a guest that stands still must not have to wait for that. */
  async #untilConnected(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    const end = this.#startMillis + RECONNECT_MILLIS;
    while (!signal.aborted && this.#isResumed && clock.monotonicMillis() < end) {
      if ((this.#server?.clientCount ?? 0) >= this.#disks.length) return;
      await clock.sleep(100, signal).catch(() => undefined);
    }
  }

  get #isResumed(): boolean {
    return this.#disks.some(({ state }) => state.isResumed);
  }

  async #whenFilled(signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#onFilled = resolve;
      signal.addEventListener('abort', () => resolve(), { once: true });
      if (this.#isFilled || signal.aborted) resolve();
    });
  }

  get #isFilled(): boolean {
    return this.#disks.every(({ fill }) => fill.kind === 'filled');
  }

  /** Whether it is time to end. */
  #look(): void {
    const { exitWhenDone, mover } = this.#options;
    if (this.#isFilled) {
      this.#onFilled();
      // A guest that was not moved and went rests on nothing of ours; one that is being moved leaves the export, too.
      if (mover?.isAtWork === true) return;
      const mayEnd = exitWhenDone && (mover === undefined || !this.#clients.arePresent);
      if (mayEnd || this.#clients.areGone) this.#end({ kind: 'done' });
      return;
    }
    // A guest goes on with what can be read, and may heal it: its exports stay.
    const isStuck = this.#disks.every(({ fill }) => fill.kind !== 'filling' && fill.kind !== 'stopped');
    if (!isStuck || !(this.#clients.areGone || (exitWhenDone && !this.#clients.arePresent))) return;
    const failed = this.#disks.map(({ fill }) => fill).find(({ kind }) => kind === 'failed');
    this.#end(failed?.kind === 'failed' ? failed : { kind: 'damaged' });
  }

  /** Answers what is in flight, and closes. Gives another outcome where that went wrong. */
  async #close(filling: Promise<void>, outcome: LiveOutcome): Promise<LiveOutcome | undefined> {
    await this.#server?.close({ graceMillis: CLOSE_MILLIS });
    let failed: LiveOutcome | undefined;
    // So that the state files are then removed at one stroke: one alone would say that the other target is foreign.
    if (this.#isFilled) await Promise.allSettled(this.#disks.map(({ node }) => node.flush()));
    const isDone = outcome.kind === 'done';
    const closed = await Promise.allSettled(this.#disks.map((disk) => disk.close({ keepState: !isDone })));
    for (const result of closed) if (result.status === 'rejected') failed ??= { kind: 'failed', error: result.reason };
    await filling;
    return failed;
  }

  #tellListening(): void {
    this.#options.onEvent({
      kind: 'listening',
      disks: this.#disks.map(({ name, lengthBytes, heldBytes, state }) => ({
        ...{ name, target: state.target.name, statePath: state.statePath, sizeBytes: lengthBytes, heldBytes },
        ...{ isResumed: state.isResumed, excessBytes: state.excessBytes },
      })),
    });
    if (this.#isFilled) this.#tellDone();
  }

  async #tellProgress(): Promise<void> {
    const totalBytes = this.#disks.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
    const held = () => this.#disks.reduce((sum, { heldBytes }) => sum + heldBytes, 0);
    for (let last = -1; !this.#isFilled; ) {
      const heldBytes = held();
      if (heldBytes !== last) this.#options.onEvent({ kind: 'progress', heldBytes, totalBytes });
      last = heldBytes;
      try {
        await this.#options.clock.sleep(PROGRESS_MILLIS, this.#over.signal);
      } catch {
        return;
      }
    }
  }

  #tellDone(): void {
    const seconds = (this.#options.clock.monotonicMillis() - this.#startMillis) / 1000;
    this.#options.onEvent({ kind: 'done', seconds });
    this.#look();
  }

  onDamaged(disk: LiveDisk, { offsetBytes, lengthBytes }: ByteRange, error: Error): void {
    this.#options.onEvent({ kind: 'damaged', disk: disk.name, offsetBytes, lengthBytes, problem: error.message });
  }

  onAway(disk: LiveDisk, error: Error, seconds: number): void {
    this.#options.onEvent({ kind: 'stalled', disk: disk.name, problem: error.message, seconds });
  }

  onBack(disk: LiveDisk, seconds: number): void {
    this.#options.onEvent({ kind: 'going-on', disk: disk.name, seconds });
  }

  onChange(disk: LiveDisk): void {
    const { name, fill } = disk;
    if (fill.kind === 'filled') {
      this.#options.onEvent({ kind: 'filled', disk: name });
      if (this.#isFilled) this.#tellDone();
    } else if (fill.kind !== 'filling') {
      const why = fill.kind === 'damaged' ? 'damaged' : 'error';
      const retrying = fill.kind === 'stopped';
      this.#options.onEvent({ kind: 'stopped', disk: name, why, ...problemOf(fill.error), retrying });
    }
    this.#look();
  }
}

function problemOf(error: unknown): { problem: string; object?: string; advice?: string } {
  const problem = error instanceof Error ? error.message : String(error);
  if (!(error instanceof VmarError)) return { problem };
  const { object, advice } = error;
  return { problem, ...(object !== undefined && { object }), ...(advice !== undefined && { advice }) };
}

/** All that is written besides the socket. */
async function placesOf(assignments: readonly LiveAssignment[]): Promise<NamedPlace[]> {
  const places: NamedPlace[] = assignments.map(({ target }) => ({ path: target, use: 'target' }));
  for (const { target, statePath } of assignments) {
    const path = await statePathOf(target, statePath);
    places.push({ path, use: 'state file' }, { path: newStatePath(path), use: 'state file' });
  }
  return places;
}
