// SPDX-License-Identifier: MIT
// Labels: KEY=VALUE.

import { UsageError } from '../base/errors.js';
import { parsePair, refuseDuplicates } from './parse-pair.js';

const KEY = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$/;
const CONTROL = /\p{Cc}|\p{Cs}/u;
const MOST_LABELS = 64;
const MOST_VALUE_BYTES = 1024;

export function parseLabels(texts: readonly string[]): ReadonlyMap<string, string> {
  const labels = texts.map((text) => {
    const [key, value] = parsePair(text, '--label', 'KEY=VALUE');
    if (!KEY.test(key)) {
      throw new UsageError('bad-label', 'this is not the key of a label', {
        object: `--label ${key}`,
        expected: 'letters, digits, ".", "_", "/" and "-", 63 at most, beginning with a letter or digit',
      });
    }
    if (Buffer.byteLength(value) > MOST_VALUE_BYTES || CONTROL.test(value)) {
      throw new UsageError('bad-label', 'this is not the value of a label', {
        object: `--label ${key}`,
        expected: `text of at most ${MOST_VALUE_BYTES} bytes without control characters`,
      });
    }
    return [key, value] as const;
  });
  refuseDuplicates(
    labels.map(([key]) => key),
    '--label',
    'key',
  );
  if (labels.length <= MOST_LABELS) return new Map(labels);
  throw new UsageError('too-many-labels', 'there are too many labels', {
    expected: `at most ${MOST_LABELS}`,
    found: `${labels.length}`,
  });
}
