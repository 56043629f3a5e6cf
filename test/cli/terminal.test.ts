// SPDX-License-Identifier: MIT
// On a terminal: a bar, colours, and no archives. The terminal is made by script(1).

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { haveTool } from '../base/scratch.js';
import { Bench } from './bench.js';
import { CLUSTER, makeImage, noise } from './images.js';

const bench = new Bench();
const isThere = haveTool('script', 'the progress bar and colours');
const VMAR = fileURLToPath(new URL('../../dist/bundle/cli/vmar.js', import.meta.url));

beforeAll(async () => {
  await bench.json(['init', bench.store]);
  makeImage(bench.path('a.raw'), 128 * CLUSTER, [{ at: 0, bytes: noise(128) }]);
});

function onTerminal(words: string): { status: number | null; text: string } {
  const env = { ...process.env, VMAR_DATASTORE: bench.store, VMAR_CACHE_DIR: bench.path('cache'), TERM: 'xterm' };
  const { status, stdout } = spawnSync('script', ['-qec', `'${process.execPath}' '${VMAR}' ${words}`, '/dev/null'], {
    cwd: bench.directory,
    env: { ...env, NO_COLOR: '' },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return { status, text: stdout };
}

describe.skipIf(!isThere)('a terminal', () => {
  it('shows a bar while it lasts, and takes it away', () => {
    const { status, text } = onTerminal('backup 100 --disk d=a.raw --speed 2MiB');
    expect(status).toBe(0);
    expect(text).toMatch(/backing up \[#*-*\] \d+ %/);
    expect(text).toMatch(/of 8 MiB, [\d.]+ \wi?B\/s, [\d.]+ s left/);
    const table = text.slice(text.lastIndexOf('backing up'));
    expect(table).toMatch(/d +8 MiB +8 MiB/);
    // Wrapping of lines is on again.
    expect(text.lastIndexOf('\u001b[?7h')).toBeGreaterThan(text.lastIndexOf('\u001b[?7l'));
  });

  it('shows none for what is quick, and none with --quiet', () => {
    expect(onTerminal('verify').text).not.toContain('verifying');
    expect(onTerminal('--quiet backup 100 --disk d=a.raw --speed 3MiB')).toEqual({ status: 0, text: '' });
  });

  it('has colours, but not in documents', () => {
    expect(onTerminal('list').text).toContain('\u001b[1mbackup');
    expect(onTerminal('--json list').text).not.toContain('\u001b');
  });

  it('gets no archive', () => {
    const { status, text } = onTerminal('backup 100 --disk d=a.raw --output -');
    expect(status).toBe(2);
    expect(text).toContain('terminal');
  });
});
