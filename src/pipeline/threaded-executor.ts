// SPDX-License-Identifier: MIT
// Runs tasks in worker threads, first come first served. The main thread moves descriptors only.

import { BugError, FailedError } from '../base/errors.js';
import type { CompressedFrame, Piece } from './compress.js';
import type { Executor, ExecutorOptions, IntakeRequest, IntakeResult } from './executor.js';
import type { ExtractJob, ExtractReport, ExtractTarget } from './extract-job.js';
import type { CarryJob, LoadJob, LoadReport } from './load-job.js';
import {
  type Answer,
  type CarryTask,
  COMPRESS,
  type ExtractTask,
  HASH_SLOT,
  INTAKE,
  type LoadTask,
  packFrames,
} from './messages.js';
import { RefusedTargets } from './refused-targets.js';
import { checkIntake, checkLength, compressedFrame, intakeResult, joinPieces } from './slot-tasks.js';
import type { Slot, SlotPool } from './slots.js';
import type { VerifyJob, VerifyReport } from './verify-job.js';
import { WorkerTeam } from './worker-team.js';

export class ThreadedExecutor implements Executor {
  readonly #team: WorkerTeam;
  readonly #pools: Map<SlotPool, number>;
  readonly #refused = new RefusedTargets();

  /** `entry` replaces the threads' program, in tests of its death. */
  constructor(options: ExecutorOptions, entry = new URL('./worker.js', import.meta.url)) {
    const { hash, level, pools, workers, implementation = 'native', niceness = 0 } = options;
    this.#pools = new Map(pools.map((pool, index) => [pool, index]));
    this.#team = new WorkerTeam(workers, entry, () => {
      return { hash, level, implementation, niceness, pools: pools.map((pool) => pool.shared) };
    });
  }

  async hashSlot(slot: Slot, lengthBytes: number): Promise<void> {
    checkLength(slot, lengthBytes);
    await this.#team.run([HASH_SLOT, this.#poolOf(slot), slot.index, lengthBytes]);
  }

  async intake(slot: Slot, lengthBytes: number, { from, into }: IntakeRequest): Promise<IntakeResult> {
    checkIntake(slot, lengthBytes, into);
    const source = from === undefined ? [-1, 0] : [from.fd, from.offsetBytes];
    const target = into === undefined ? [-1, -1] : [this.#poolOf(into), into.index];
    const task = [INTAKE, this.#poolOf(slot), slot.index, lengthBytes, ...source, ...target];
    const readBytes = (await this.#team.run(task)) as number;
    return intakeResult(readBytes, lengthBytes, into);
  }

  async compress(pieces: readonly Piece[], into: Slot): Promise<CompressedFrame> {
    const task = [COMPRESS, this.#poolOf(into), into.index];
    for (const { slot, offsetBytes, lengthBytes } of joinPieces(pieces, into)) {
      task.push(this.#poolOf(slot), slot.index, offsetBytes, lengthBytes);
    }
    await this.#team.run(task);
    return compressedFrame(into);
  }

  async extract(job: ExtractJob): Promise<ExtractReport> {
    const { fd, object, frames, target } = job;
    const { numbers, hashes } = packFrames(frames);
    const task: ExtractTask = { task: 'extract', fd, object, numbers, hashes, target: this.#placeOf(target) };
    const report = reportOf<ExtractReport>(await this.#team.run(task, [numbers.buffer, hashes.buffer]));
    this.#refused.learn(target, report);
    return report;
  }

  async load(job: LoadJob): Promise<LoadReport> {
    const { fd, object, memory } = job;
    const { numbers, hashes } = packOne(job);
    const task: LoadTask = { task: 'load', fd, object, numbers, hashes, memory };
    return reportOf<LoadReport>(await this.#team.run(task, [numbers.buffer, hashes.buffer]));
  }

  async carry(job: CarryJob): Promise<LoadReport> {
    const { fd, object, into } = job;
    const { numbers, hashes } = packOne(job);
    const task: CarryTask = { task: 'carry', fd, object, numbers, hashes, pool: this.#poolOf(into), slot: into.index };
    return reportOf<LoadReport>(await this.#team.run(task, [numbers.buffer, hashes.buffer]));
  }

  async verifyExtents(job: VerifyJob): Promise<VerifyReport> {
    return reportOf<VerifyReport>(await this.#team.run({ task: 'verify', job: cloneable(job) }));
  }

  warmUp(): void {
    this.#team.start();
  }

  close(): Promise<void> {
    return this.#team.close();
  }

  #placeOf(target: ExtractTarget): ExtractTask['target'] {
    if (target.kind === 'slot') return { kind: 'slot', pool: this.#poolOf(target.slot), slot: target.slot.index };
    const { kind, fd, directFd, alignment, object } = this.#refused.usable(target);
    return { kind, fd, directFd, alignment, ...(object === undefined ? {} : { object }) };
  }

  #poolOf(slot: Slot): number {
    const index = this.#pools.get(slot.pool);
    if (index === undefined) throw new BugError('a slot is of a pool that the executor was not told of');
    return index;
  }
}

/** Only what a worker needs: a caller's object may hold more than can be cloned, its id be a view of a large buffer. */
function cloneable(job: VerifyJob): VerifyJob {
  const { fd, object, hash, from, to, firstSequence, firstFrame, mode, implementation, stopAfterBytes } = job;
  return {
    ...{ fd, object, hash, from, to, firstSequence, firstFrame, mode },
    ...(implementation === undefined ? {} : { implementation }),
    ...(stopAfterBytes === undefined ? {} : { stopAfterBytes }),
    containerId: Uint8Array.from(job.containerId),
  };
}

function packOne({ frame, chunks }: Omit<LoadJob, 'memory'>): ReturnType<typeof packFrames> {
  return packFrames([{ ...frame, chunks }]);
}

function reportOf<T>(answer: Answer): T {
  if (typeof answer === 'number' || !('report' in answer))
    throw new FailedError('worker-failed', 'a worker gave no report');
  return answer.report as T;
}
