// SPDX-License-Identifier: MIT
// The wording of errors: what failed, on what, why, and on a second line what to do.

import { EXIT, type ExitStatus, systemErrorCode, VmarError } from '../base/errors.js';
import { printable } from './printable.js';

/** The `error` of a JSON document; docs/JSON.md. */
export interface DescribedError {
  readonly code: string;
  readonly message: string;
  readonly object?: string;
  readonly offset?: number;
  readonly expected?: string;
  readonly found?: string;
  readonly advice?: string;
  readonly exit: ExitStatus;
}

export function describeError(error: unknown): DescribedError {
  if (error instanceof VmarError) return describeOurs(error);
  const code = systemErrorCode(error);
  if (isLostPlace(error)) {
    const [message, next] = ['the working directory is not there any more', 'Change to another, and start it again.'];
    return { code: 'system-error', message, ...advice(next), exit: EXIT.failed };
  }
  if (error instanceof Error && code !== undefined && /^E[A-Z0-9]+$/.test(code)) {
    return { code: 'system-error', message: error.message, ...advice(SYSTEM_ADVICE[code]), exit: EXIT.failed };
  }
  return {
    code: 'bug',
    message: error instanceof Error ? `${error.name}: ${error.message}` : String(error),
    advice: 'This should not happen. Please report it with the output of --verbose.',
    exit: EXIT.failed,
  };
}

/** Relative paths mean nothing then. */
function isLostPlace(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error && error.syscall === 'uv_cwd';
}

const SYSTEM_ADVICE: Readonly<Record<string, string>> = {
  ENOSPC: 'Make room on the file system.',
  EDQUOT: 'Make room within the quota.',
  EACCES: 'Run it as a user who may do that.',
  EPERM: 'Run it as a user who may do that.',
  EMFILE: 'Raise the limit of open files (ulimit -n).',
  ENFILE: 'Raise the limit of open files (sysctl fs.file-max).',
  ENOMEM: 'Free memory, or use fewer --workers.',
  EIO: 'Look in the kernel log for errors of the disk.',
  EROFS: 'Mount the file system for writing.',
};

function describeOurs(error: VmarError): DescribedError {
  const { code, message, object, offsetBytes, expected, found } = error;
  return {
    code,
    message,
    ...(object === undefined ? {} : { object }),
    ...(offsetBytes === undefined ? {} : { offset: offsetBytes }),
    ...(expected === undefined ? {} : { expected }),
    ...(found === undefined ? {} : { found }),
    ...advice(error.advice),
    exit: error.exitStatus,
  };
}

function advice(text: string | undefined): { advice?: string } {
  return text === undefined ? {} : { advice: text };
}

/** One or two lines, without the last line break. */
export function renderError(command: string, error: DescribedError): string {
  const place = error.object === undefined ? '' : `${where(error.object, error.offset)}: `;
  const first = `${command}: ${place}${error.message}${expectation(error)}`;
  const lines = error.advice === undefined ? [first] : [first, `  ${error.advice}`];
  return lines.map(printable).join('\n');
}

function where(object: string, offset: number | undefined): string {
  return offset === undefined ? object : `${object} at byte ${offset}`;
}

function expectation({ expected, found }: DescribedError): string {
  if (expected !== undefined && found !== undefined) return ` (expected ${expected}, found ${found})`;
  if (expected !== undefined) return ` (expected ${expected})`;
  return found === undefined ? '' : ` (found ${found})`;
}
