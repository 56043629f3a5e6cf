// SPDX-License-Identifier: MIT
// The rules of docs/ARCHITECTURE.md that a program can check.

import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ownImports, readSources, terminalUses } from './sources.js';

const sources = readSources();

/** What each part may import besides itself. Imports point down only. */
const BLOCKS = ['formats', 'base'];
const JOBS = ['block', 'nbd', 'qmp', 'pipeline', 'plugin-api', ...BLOCKS];
const STORE = ['pipeline', ...BLOCKS];
const ARCHIVE = ['store', 'jobs', ...JOBS];
const NIGHTLY = ['archive', 'live', ...ARCHIVE];
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  base: [],
  formats: ['base'],
  block: BLOCKS,
  nbd: ['block', ...BLOCKS],
  qmp: BLOCKS,
  pipeline: BLOCKS,
  'plugin-api': ['block', 'qmp', ...BLOCKS],
  jobs: JOBS,
  store: STORE,
  archive: ARCHIVE,
  live: ['archive', ...ARCHIVE],
  nightly: NIGHTLY,
  plugins: ['plugin-api', ...BLOCKS],
  cli: ['nightly', 'plugins', ...NIGHTLY],
  index: ['nightly', 'plugins', ...NIGHTLY],
};

/** "src/base/errors.ts" → "base", "src/plugin-api.ts" → "plugin-api", "plugins/x/y.ts" → "plugins". */
function part(path: string): string {
  const [top, second] = path.split('/') as [string, string];
  return top === 'src' ? second.replace(/\.ts$/, '') : top;
}

/** Imports of one part by another that the rules forbid; of one plugin by another, too. */
function forbidden(path: string, target: string): boolean {
  const [from, to] = [part(path), part(target)];
  if (from === 'plugins' && to === 'plugins') return path.split('/')[1] !== target.split('/')[1];
  return from !== to && !(ALLOWED[from] ?? []).includes(to);
}

describe('imports', () => {
  it('are found', () => {
    expect(sources.length).toBeGreaterThan(50);
    const main = sources.find(({ path }) => path === 'src/cli/main.ts');
    expect(ownImports(main!)).toContain('src/base/errors.ts');
    const grammar = sources.find(({ path }) => path === 'src/cli/grammar.ts');
    expect(ownImports(grammar!)).toContain('src/cli/commands/backup.ts');
  });

  it('of every part have a rule', () => {
    expect([...new Set(sources.map(({ path }) => part(path)))].filter((name) => !(name in ALLOWED))).toEqual([]);
  });

  it('point down only', () => {
    const wrong = sources.flatMap((source) =>
      ownImports(source)
        .filter((target) => forbidden(source.path, target))
        .map((target) => `${source.path} imports ${target}`),
    );
    expect(wrong).toEqual([]);
  });

  it('would be caught', () => {
    expect(forbidden('src/store/x.ts', 'src/block/device.ts')).toBe(true);
    expect(forbidden('src/block/x.ts', 'src/store/fs.ts')).toBe(true);
    expect(forbidden('src/base/x.ts', 'formats/vmar/hash.ts')).toBe(true);
    expect(forbidden('plugins/source-image/x.ts', 'src/block/device.ts')).toBe(true);
    expect(forbidden('plugins/source-image/x.ts', 'plugins/source-nbd/y.ts')).toBe(true);
    expect(forbidden('plugins/source-image/x.ts', 'src/plugin-api.ts')).toBe(false);
    expect(forbidden('src/archive/x.ts', 'src/cli/output.ts')).toBe(true);
  });
});

describe('the terminal, the environment and the exit', () => {
  it('are the business of src/cli alone', () => {
    const names = new Set(['argv', 'env', 'exit', 'exitCode', 'stdin', 'stdout', 'stderr']);
    const others = sources.filter(({ path }) => part(path) !== 'cli');
    expect(others.flatMap((source) => terminalUses(source, names))).toEqual([]);
  });
});

describe('files', () => {
  it('begin with their licence', () => {
    const bare = sources.filter(({ text }) => {
      const [first, second] = text.split('\n', 2) as [string, string];
      return (first.startsWith('#!') ? second : first) !== '// SPDX-License-Identifier: MIT';
    });
    expect(bare.map(({ path }) => path)).toEqual([]);
  });

  it('have 400 lines at most', () => {
    expect(sources.filter(({ text }) => text.trimEnd().split('\n').length > 400).map(({ path }) => path)).toEqual([]);
  });

  it('are named after an idea', () => {
    const vague = /^(utils?|helpers?|common|misc|shared)\b/i;
    expect(sources.filter(({ path }) => vague.test(basename(path))).map(({ path }) => path)).toEqual([]);
  });
});

describe('package-lock.json', () => {
  it('holds no download addresses', () => {
    expect(readFileSync('package-lock.json', 'utf8')).not.toContain('"resolved"');
  });
});
