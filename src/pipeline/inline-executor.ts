// SPDX-License-Identifier: MIT
// Runs tasks in the caller's thread, before the call returns. For tests, small jobs and single-core machines.

import { FailedError } from '../base/errors.js';
import { carry } from './carry.js';
import { type CompressedFrame, compress, type Piece } from './compress.js';
import type { Executor, ExecutorOptions, IntakeRequest, IntakeResult } from './executor.js';
import { extract } from './extract.js';
import type { ExtractJob, ExtractReport } from './extract-job.js';
import { hashSlot } from './hash-slot.js';
import { intake } from './intake.js';
import { load } from './load.js';
import type { CarryJob, LoadJob, LoadReport } from './load-job.js';
import { RefusedTargets } from './refused-targets.js';
import { checkIntake, checkLength, compressedFrame, intakeResult, joinPieces } from './slot-tasks.js';
import type { Slot } from './slots.js';
import type { Implementation } from './thread-tools.js';
import { verifyExtents } from './verify-extents.js';
import type { VerifyJob, VerifyReport } from './verify-job.js';

export class InlineExecutor implements Executor {
  readonly #options: ExecutorOptions;
  readonly #implementation: Implementation;
  readonly #refused = new RefusedTargets();
  #closed = false;

  constructor(options: ExecutorOptions) {
    this.#options = options;
    this.#implementation = options.implementation ?? 'native';
  }

  async hashSlot(slot: Slot, lengthBytes: number): Promise<void> {
    this.#checkOpen();
    checkLength(slot, lengthBytes);
    hashSlot(slot.memory, lengthBytes, this.#options.hash, this.#implementation);
  }

  async intake(slot: Slot, lengthBytes: number, request: IntakeRequest): Promise<IntakeResult> {
    this.#checkOpen();
    const { hash, level } = this.#options;
    const { from, into } = request;
    checkIntake(slot, lengthBytes, into);
    const options = { from, into: into?.memory, hash, level, implementation: this.#implementation };
    return intakeResult(intake(slot.memory, lengthBytes, options), lengthBytes, into);
  }

  async compress(pieces: readonly Piece[], into: Slot): Promise<CompressedFrame> {
    this.#checkOpen();
    const runs = joinPieces(pieces, into).map((piece) => ({ ...piece, slot: piece.slot.memory }));
    compress(runs, into.memory, this.#options.level, this.#options.hash, this.#implementation);
    return compressedFrame(into);
  }

  async extract(job: ExtractJob): Promise<ExtractReport> {
    this.#checkOpen();
    const { target } = job;
    const place =
      target.kind === 'file' ? this.#refused.usable(target) : { kind: target.kind, memory: target.slot.memory };
    const report = extract(job, place, this.#options.hash, this.#implementation);
    this.#refused.learn(target, report);
    return report;
  }

  async load(job: LoadJob): Promise<LoadReport> {
    this.#checkOpen();
    return load(job, this.#options.hash, this.#implementation);
  }

  async carry(job: CarryJob): Promise<LoadReport> {
    this.#checkOpen();
    return carry(job, job.into.memory, this.#options.hash, this.#implementation);
  }

  async verifyExtents(job: VerifyJob): Promise<VerifyReport> {
    this.#checkOpen();
    return verifyExtents(job, this.#implementation);
  }

  warmUp(): void {}

  async close(): Promise<void> {
    this.#closed = true;
  }

  #checkOpen(): void {
    if (this.#closed) throw new FailedError('executor-closed', 'the work was called off');
  }
}
