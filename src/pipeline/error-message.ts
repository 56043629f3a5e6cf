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
  /** Of an error of the system. */
  readonly system?: SystemFacts;
  /** The stack in its thread. */
  readonly stack: string;
}

interface SystemFacts {
  readonly code: string;
  readonly errno: number;
  readonly syscall: string;
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
    const failed = { name: 'FailedError', code: 'worker-failed', facts: {}, stack };
    const system = systemFacts(error);
    if (error instanceof Error && system !== undefined) return { ...failed, message: error.message, system };
    return { ...failed, message: `a worker failed: ${String(error)}` };
  }
  const { object, offsetBytes, expected, found, advice } = error;
  const facts = Object.fromEntries(
    Object.entries({ object, offsetBytes, expected, found, advice }).filter(([, value]) => value !== undefined),
  );
  return { name: error.name, code: error.code, message: error.message, facts, stack };
}

/** Node's own three properties, if it has them all. */
function systemFacts(error: unknown): SystemFacts | undefined {
  const { code, errno, syscall } = (error ?? {}) as Partial<SystemFacts>;
  if (typeof code !== 'string' || typeof errno !== 'number' || typeof syscall !== 'string') return undefined;
  return { code, errno, syscall };
}

/**
 * An error of the same class, code, message and facts, whose cause carries the other thread's stack; for an error of the
 * system one with its `code`, `errno` and `syscall`.
 */
export function decodeError(told: ErrorMessage): Error {
  if (told.system !== undefined) return Object.assign(new Error(told.message), told.system);
  if (told.name === 'BugError') return new BugError(told.message);
  const cause = Object.assign(new Error(told.message), { stack: told.stack });
  const Class = CLASSES[told.name] ?? FailedError;
  return new Class(told.code, told.message, { ...told.facts, cause });
}
