// SPDX-License-Identifier: MIT
// NAME=VALUE, cut at the first "=".

import { UsageError } from '../base/errors.js';

export function parsePair(text: string, flag: string, shape: string): readonly [name: string, value: string] {
  const cut = text.indexOf('=');
  if (cut > 0 && cut < text.length - 1) return [text.slice(0, cut), text.slice(cut + 1)];
  throw new UsageError('bad-pair', `this is not ${shape}`, { object: `${flag} ${text}` });
}

/** @throws UsageError at the first that comes a second time. */
export function refuseDuplicates(names: readonly string[], flag: string, what: string): void {
  const seen = new Set<string>();
  for (const name of names) {
    if (seen.has(name))
      throw new UsageError('duplicate', `the same ${what} is given twice`, { object: `${flag} ${name}` });
    seen.add(name);
  }
}
