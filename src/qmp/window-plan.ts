// SPDX-License-Identifier: MIT
// What is done to a guest while it stands still, as a value: the guardian does it in a process of its own.

import type { Step } from './commands.js';
import type { MonitorAddress } from './monitor.js';

export interface WindowStep {
  /** The disk that it is about, for messages. */
  readonly disk?: string;
  readonly do: Step;
  /** Takes it back. */
  readonly undo: Step;
}

export interface WindowPlan {
  readonly monitor: MonitorAddress;
  /** Freeze the guest's file systems around it. */
  readonly agent?: { readonly path: string; readonly syncMillis: number; readonly freezeMillis: number };
  /** Pause the guest around the steps, if it runs. */
  readonly pause: boolean;
  /**
   * When all is ready (the guest stands still, if it is paused), the steps wait until whoever wants them says go. From
   * then on all are done, though it may be gone.
   */
  readonly waitsForGo?: boolean;
  /** Name of a node that is there for as long as the guest may be left paused or frozen by us. */
  readonly mark: string;
  /** In order. When one fails, or whoever wants it is gone, those done are taken back in reverse order. */
  readonly steps: readonly WindowStep[];
  readonly commandMillis: number;
}

/** What a guardian can tell of an error. */
export interface WindowError {
  readonly code: string;
  readonly message: string;
  readonly object: string;
  /** The disk whose step QEMU refused. */
  readonly disk?: string;
}

export interface WindowReport {
  /** Undefined: all steps are done. Otherwise none is in effect, as far as could be seen to. */
  readonly error?: WindowError;
  /** The agent froze the file systems before the steps, and answered until after them. */
  readonly frozen: boolean;
  /** Why they were not frozen though an agent was given. */
  readonly notFrozen?: string;
  /** How long the guest stood still, by QEMU's own time stamps where there are events. 0: it was not paused. */
  readonly pausedMicros: number;
  /** When the steps were done, by the host's clock. */
  readonly momentMillis: number;
}
