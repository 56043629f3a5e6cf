// SPDX-License-Identifier: MIT
// Errors between threads: a structured clone keeps neither class nor code, so they travel as plain facts.

import {
  BugError,
  BusyError,
  DamageError,
  type ErrorFacts,
  FailedError,
  NotFoundError,
  UsageError,
  VmarError,
} from '../base/errors.js';

export interface ErrorMessage {
  readonly name: string;
  readonly code: string;
  readonly message: string;
  readonly facts: Omit<ErrorFacts, 'cause'>;
  /** The stack in its thread. */
  readonly stack: string;
}

const CLASSES: Readonly<Record<string, new (code: string, message: string, facts: ErrorFacts) => VmarError>> = {
  BusyError,
  DamageError,
  FailedError,
  NotFoundError,
  UsageError,
};

export function encodeError(error: unknown): ErrorMessage {
  const stack = error instanceof Error ? (error.stack ?? '') : '';
  if (!(error instanceof VmarError)) {
    const name = 'FailedError';
    return { name, code: 'worker-failed', message: `a worker failed: ${String(error)}`, facts: {}, stack };
  }
  const { object, offsetBytes, expected, found, advice } = error;
  const facts = Object.fromEntries(
    Object.entries({ object, offsetBytes, expected, found, advice }).filter(([, value]) => value !== undefined),
  );
  return { name: error.name, code: error.code, message: error.message, facts, stack };
}

/** An error of the same class, code, message and facts; its cause carries the other thread's stack. */
export function decodeError(told: ErrorMessage): VmarError {
  if (told.name === 'BugError') return new BugError(told.message);
  const cause = Object.assign(new Error(told.message), { stack: told.stack });
  const Class = CLASSES[told.name] ?? FailedError;
  return new Class(told.code, told.message, { ...told.facts, cause });
}
