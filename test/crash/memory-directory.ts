// SPDX-License-Identifier: MIT
// A directory in memory, for tests whose power cuts are made up: there every fsync is free.

import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

const MEMORY = '/dev/shm';

/** A new directory that goes away after the tests of the file; on a disk where there is no file system in memory. */
export function memoryDirectory(): string {
  const path = mkdtempSync(join(isWritable(MEMORY) ? MEMORY : tmpdir(), 'vmar-test-'));
  afterAll(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
