// SPDX-License-Identifier: MIT
// The one error hierarchy. Every error that a user may see carries a stable code, an exit status, the object it is
// about, and what to do next; wording beyond the sentence itself lives in src/cli/render-error.ts.

/** Exit statuses of the commands; a contract (docs/JSON.md). */
export const EXIT = {
  done: 0,
  failed: 1,
  usage: 2,
  damage: 3,
  notFound: 4,
  busy: 5,
  interrupted: 130,
} as const;

export type ExitStatus = (typeof EXIT)[keyof typeof EXIT];

/** What an error may know besides its sentence. */
export interface ErrorFacts {
  /** The file, device, backup or socket it is about, as the user knows it. */
  readonly object?: string;
  /** Offset in `object`, bytes. */
  readonly offsetBytes?: number;
  readonly expected?: string;
  readonly found?: string;
  /** What the user can do now, an imperative sentence. */
  readonly advice?: string;
  readonly cause?: unknown;
}

export abstract class VmarError extends Error {
  abstract readonly exitStatus: ExitStatus;
  readonly object: string | undefined;
  readonly offsetBytes: number | undefined;
  readonly expected: string | undefined;
  readonly found: string | undefined;
  readonly advice: string | undefined;

  constructor(
    /** Stable, for machines: lower case words joined by "-". */
    readonly code: string,
    message: string,
    facts: ErrorFacts = {},
  ) {
    super(message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.name = new.target.name;
    this.object = facts.object;
    this.offsetBytes = facts.offsetBytes;
    this.expected = facts.expected;
    this.found = facts.found;
    this.advice = facts.advice;
  }
}

/** It did not work: input/output, not a datastore, a newer one, a missing key. */
export class FailedError extends VmarError {
  override readonly exitStatus = EXIT.failed;
}

/** The command line, or an argument of a library call, makes no sense. */
export class UsageError extends VmarError {
  override readonly exitStatus = EXIT.usage;
}

/** Stored bytes are not what was written, or are gone. */
export class DamageError extends VmarError {
  override readonly exitStatus = EXIT.damage;
}

/** No such backup, guest or disk. */
export class NotFoundError extends VmarError {
  override readonly exitStatus = EXIT.notFound;
}

/** Someone else holds it. */
export class BusyError extends VmarError {
  override readonly exitStatus = EXIT.busy;
}

/** Cancelled by the user or by the caller's AbortSignal. */
export class InterruptedError extends VmarError {
  override readonly exitStatus = EXIT.interrupted;
  constructor(message = 'interrupted') {
    super('interrupted', message);
  }
}

/** A broken promise of our own code; never thrown for untrusted bytes. */
export class BugError extends VmarError {
  override readonly exitStatus = EXIT.failed;
  constructor(message: string) {
    super('bug', message, { advice: 'Please report this with the output of --verbose.' });
  }
}

/** The `code` of a system error ("ENOENT"), or undefined. */
export function systemErrorCode(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}
