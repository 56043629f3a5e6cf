// SPDX-License-Identifier: MIT
// Directories and tools for tests.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

/** A new directory that goes away after the tests of the file. */
export function scratchDirectory(): string {
  const path = mkdtempSync(join(tmpdir(), 'vmar-test-'));
  afterAll(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Whether a command can be started; says loudly what is not tested when it cannot. */
export function haveTool(command: string, untested: string): boolean {
  const found = spawnSync(command, ['--version'], { stdio: 'ignore' }).error === undefined;
  if (!found) console.warn(`\n!!! ${command} is missing: NOT TESTED: ${untested}\n`);
  return found;
}
