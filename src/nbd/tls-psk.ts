// SPDX-License-Identifier: MIT
// Files of keys shared beforehand, one NAME:HEXKEY a line, as GnuTLS's psktool writes them.

import { readFile } from 'node:fs/promises';
import { FailedError } from '../base/errors.js';

const MOST_FILE_BYTES = 1 << 20;
const LINE = /^([^:\s][^:]*):((?:[0-9a-fA-F]{2})+)$/;

/** Keys by name. Rejects with FailedError 'tls-unusable' for a file that cannot be read or holds anything else. */
export async function readPskFile(path: string): Promise<Map<string, Buffer>> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new FailedError('tls-unusable', `the file of keys cannot be read: ${reason}`, { object: path, cause: error });
  }
  return parsePsk(text, path);
}

/** @param path for messages */
export function parsePsk(text: string, path: string): Map<string, Buffer> {
  const keys = new Map<string, Buffer>();
  if (text.length > MOST_FILE_BYTES) throw bad(path, 'it is too long for a file of keys');
  for (const [index, line] of text.split('\n').entries()) {
    const content = line.trim();
    if (content === '' || content.startsWith('#')) continue;
    const match = LINE.exec(content);
    // The line itself is not shown: it may be a key.
    if (match === null) throw bad(path, `line ${index + 1} is not NAME:HEXKEY`);
    keys.set(match[1] ?? '', Buffer.from(match[2] ?? '', 'hex'));
  }
  if (keys.size === 0) throw bad(path, 'it holds no key');
  return keys;
}

function bad(path: string, message: string): FailedError {
  return new FailedError('tls-unusable', message, { object: path, advice: 'Make one with psktool.' });
}
