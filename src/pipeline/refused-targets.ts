// SPDX-License-Identifier: MIT
// Remembers which targets refused O_DIRECT, so that it is tried once a target and not once a job.

import type { ExtractReport, ExtractTarget, FileTarget } from './extract-job.js';

export class RefusedTargets {
  readonly #refused = new WeakSet<FileTarget>();

  /** What to write to: the target, without its direct descriptor if that was refused before. */
  usable(target: FileTarget): FileTarget {
    return this.#refused.has(target) ? { ...target, directFd: -1 } : target;
  }

  /** Takes note of how a job went. */
  learn(target: ExtractTarget, report: ExtractReport): void {
    if (report.directRefused && target.kind === 'file') this.#refused.add(target);
  }
}
