// SPDX-License-Identifier: MIT
// What happens in a run of a job, as it happens: for the log, and for who looks on.

import type { JobGuest, JobReport, JobStep } from '../../formats/vmar/job-report.js';
import type { HookMoment, JobKind } from './config.js';

export type JobEvent =
  | { readonly event: 'job-begin'; readonly kind: JobKind; readonly datastore: string }
  | { readonly event: 'guests'; readonly guests: readonly string[] }
  | { readonly event: 'guest-begin'; readonly guest: string; readonly attempt: number }
  /** What the work on a guest, or a step, says meanwhile. */
  | { readonly event: 'says'; readonly guest?: string; readonly step?: string; readonly text: string }
  | {
      readonly event: 'retry';
      readonly guest?: string;
      readonly step?: string;
      readonly attempt: number;
      readonly attempts: number;
      readonly delaySeconds: number;
      readonly error: string;
    }
  | { readonly event: 'guest-end'; readonly result: JobGuest }
  | { readonly event: 'step-begin'; readonly step: string }
  | { readonly event: 'step-end'; readonly result: JobStep }
  | { readonly event: 'hook-begin'; readonly moment: HookMoment; readonly guest?: string }
  | { readonly event: 'hook-says'; readonly moment: HookMoment; readonly guest?: string; readonly text: string }
  | {
      readonly event: 'hook-end';
      readonly moment: HookMoment;
      readonly guest?: string;
      readonly seconds: number;
      readonly error?: string;
    }
  | { readonly event: 'notified'; readonly way: string; readonly error?: string }
  | { readonly event: 'warning'; readonly text: string; readonly guest?: string }
  | { readonly event: 'job-end'; readonly report: JobReport };

/** Told of every event at once; must not throw. */
export type OnEvent = (event: JobEvent) => void;
