// SPDX-License-Identifier: MIT
// Standard input as the archive, `-` on the command line.

import { isatty } from 'node:tty';
import type { ByteSource } from '../archive/import/open-bytes.js';
import { UsageError } from '../base/errors.js';

export function isStandardInput(word: string): boolean {
  return word === '-';
}

/** @throws UsageError if it is a terminal */
export function standardInput(): ByteSource {
  if (!isatty(0)) return { fd: 0, name: '-' };
  throw new UsageError('terminal', 'an archive is not read from a terminal', {
    object: '-',
    advice: 'Send it a file or the output of another program.',
  });
}
