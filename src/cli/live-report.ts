// SPDX-License-Identifier: MIT
// What a live restore tells: with --json one document a line, see docs/JSON.md; else text and a progress bar.

import { resolve } from 'node:path';
import type { ExitStatus } from '../base/errors.js';
import type { LiveEvent, LiveOutcome } from '../live/live-restore.js';
import type { Context } from './context.js';
import { counted, humanDuration, humanSize } from './human.js';
import { printable } from './printable.js';
import { Progress } from './progress.js';
import { describeError, renderError } from './render-error.js';

export class LiveReport {
  readonly #context: Context;
  readonly #socketPath: string;
  #progress: Progress | undefined;
  #damaged = 0;

  constructor(context: Context, socketPath: string) {
    this.#context = context;
    // Whoever reads it may be in another directory.
    this.#socketPath = resolve(socketPath);
  }

  tell(event: LiveEvent): void {
    const { output } = this.#context;
    if (output.json) output.document(this.#document(event));
    this.#show(event);
  }

  /** The last thing it says. */
  end(outcome: LiveOutcome, status: ExitStatus): void {
    this.#progress?.end();
    const { output, command } = this.#context;
    const error = outcome.kind === 'failed' ? describeError(outcome.error) : undefined;
    if (output.json) output.document({ event: 'exit', outcome: outcome.kind, status, ...(error && { error }) });
    else if (error !== undefined) output.error(renderError(command, error));
    if (outcome.kind === 'interrupted') {
      output.notice('stopped before all was restored; the same command goes on where it stands');
    }
    if (outcome.kind === 'damaged') {
      output.error(
        `${counted(this.#damaged, 'damaged range')} of the backup could not be restored; the rest is. ` +
          'The same command goes on when the backup was repaired.',
      );
    }
  }

  #document(event: LiveEvent): unknown {
    switch (event.kind) {
      case 'listening':
        return {
          event: 'listening',
          socket: this.#socketPath,
          disks: event.disks.map(({ name, target, statePath, sizeBytes, heldBytes, isResumed }) => ({
            ...{ name, target, state: statePath, size: sizeBytes, held: heldBytes, resumed: isResumed },
          })),
        };
      case 'progress':
        return { event: 'progress', held: event.heldBytes, size: event.totalBytes };
      case 'guest': {
        const { monitor, qemu, hasAllocTrack } = event;
        return { event: 'guest', monitor, qemu, allocTrack: hasAllocTrack };
      }
      case 'switched':
        return {
          event: 'switched',
          disks: event.disks.map(({ disk, node }) => ({ disk, ...(node !== undefined && { node }) })),
          paused: event.pausedMicros / 1e6,
        };
      case 'damaged': {
        const { disk, offsetBytes, lengthBytes, problem } = event;
        return { event: 'damaged', disk, offset: offsetBytes, length: lengthBytes, problem };
      }
      default: {
        const { kind, ...facts } = event;
        return { event: kind, ...facts };
      }
    }
  }

  #show(event: LiveEvent): void {
    const { output, log } = this.#context;
    switch (event.kind) {
      case 'listening':
        for (const { name, target, excessBytes, isResumed, heldBytes, sizeBytes } of event.disks) {
          const resumed = isResumed ? `, goes on with ${humanSize(heldBytes)} of ${humanSize(sizeBytes)}` : '';
          output.notice(`${name} at nbd+unix:///${name}?socket=${printable(this.#socketPath)}${resumed}`);
          if (excessBytes > 0) log.info(`${printable(target)} is larger than ${name} by ${excessBytes} bytes`);
        }
        if (event.disks.some((disk) => disk.heldBytes < disk.sizeBytes)) {
          this.#progress = new Progress(output, 'restoring');
          this.#progress.addTotal(event.disks.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0));
        }
        return;
      case 'progress':
        this.#progress?.setDone(event.heldBytes);
        return;
      case 'damaged':
        this.#damaged++;
        output.error(
          `damaged: ${event.disk} at byte ${event.offsetBytes}, ${event.lengthBytes} bytes: ${printable(event.problem)}`,
        );
        return;
      case 'stalled':
        log.warn(
          `${printable(event.problem)}: reads of what ${event.disk} lacks wait for it` +
            (event.seconds < 1 ? '' : `, for ${humanDuration(event.seconds)} now`),
        );
        return;
      case 'going-on':
        log.info(`the backup can be read again after ${humanDuration(event.seconds)}`);
        return;
      case 'stopped':
        log.warn(
          event.why === 'damaged'
            ? `${event.disk} is restored but for what is damaged: reads of that fail until the guest overwrites it`
            : standsStill(event),
        );
        return;
      case 'filled':
        output.notice(`${event.disk} is restored`);
        return;
      case 'done':
        this.#progress?.end();
        output.notice(`all is restored after ${humanDuration(event.seconds)}; the backup is needed no more`);
        return;
      case 'guest':
        log.debug(`${printable(event.monitor)} is a QEMU ${event.qemu}`);
        if (event.hasAllocTrack) log.info(ALLOC_TRACK_HINT);
        return;
      case 'not-switched':
        if (event.code === 'qmp-missing') log.info(notSwitched(event));
        else log.warn(notSwitched(event));
        return;
      case 'switched': {
        const stood =
          event.pausedMicros > 0 ? `; the guest stood still for ${(event.pausedMicros / 1000).toFixed(1)} ms` : '';
        const disks = event.disks.map(({ disk, node }) => (node === undefined ? disk : `${disk} (node ${node})`));
        output.notice(`the guest runs on ${disks.join(', ')} by itself now${stood}`);
      }
    }
  }
}

const ALLOC_TRACK_HINT =
  'this QEMU has Proxmox VE\'s driver alloc-track, which can restore by itself from "vmar serve"; see docs/LIVE-RESTORE.md';

function notSwitched(event: Extract<LiveEvent, { kind: 'not-switched' }>): string {
  const { code, problem, object, expected, found, advice } = event;
  const where = object === undefined ? '' : `${printable(object)}: `;
  // A guest that is not started yet is nothing to be worried about.
  if (code === 'qmp-missing') return `the guest's monitor is waited for: ${where}${printable(problem)}`;
  const lines = [`the guest stays on the export for now: ${where}${printable(problem)}; it is tried again`];
  if (expected !== undefined) lines.push(`expected: ${printable(expected)}`);
  if (found !== undefined) lines.push(`found: ${printable(found)}`);
  if (advice !== undefined) lines.push(printable(advice));
  return lines.join('\n  ');
}

function standsStill({ disk, object, problem, advice, retrying }: Extract<LiveEvent, { kind: 'stopped' }>): string {
  const where = object === undefined ? '' : `${printable(object)}: `;
  const next = retrying ? '; it is tried again every few seconds' : '';
  const first = `filling ${disk} stands still: ${where}${printable(problem)}${next}`;
  return advice === undefined ? first : `${first}\n  ${printable(advice)}`;
}
