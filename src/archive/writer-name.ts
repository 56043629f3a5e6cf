// SPDX-License-Identifier: MIT
// What this program calls itself in what it writes.

import { readFileSync } from 'node:fs';

/** From package.json, three folders up from dist/src/archive. */
const VERSION = (
  JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as { version: string }
).version;

export const WRITER_NAME = `vmar ${VERSION}`;
