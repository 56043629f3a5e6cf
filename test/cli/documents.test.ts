// SPDX-License-Identifier: MIT
// docs/JSON.md and the documents that commands print: no field is without its words, and what a heading promises is there.

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { Bench, type Json } from './bench.js';
import { CLUSTER, makeImage, noise } from './images.js';
import { serve } from './serving.js';

const page = readFileSync('docs/JSON.md', 'utf8');
const sections = new Map(
  page
    .split(/^## /m)
    .slice(1)
    .map((section) => [section.slice(0, section.indexOf('\n')), section] as const),
);

const bench = new Bench();
const CONFIG = `
datastores: {main: ${bench.store}}
guests:
  100: {disks: {d: ${bench.path('a.raw')}}}
jobs:
  nightly: {guests: all, datastore: main, schedule: 02:00}
`;

beforeAll(async () => {
  makeImage(bench.path('a.raw'), 4 * CLUSTER, [{ at: 0, bytes: noise(2) }]);
  writeFileSync(bench.path('vmar.yaml'), CONFIG);
  writeFileSync(bench.path('100.conf'), 'name: guest');
  writeFileSync(bench.path('vars.fd'), 'variables');
  mkdirSync(bench.path('dump'));
  mkdirSync(bench.path('units'));
});

/** The command of each section, in an order in which they work. `vma-restore --live` and `drill` have tests of their own. */
const COMMANDS: readonly (readonly [section: string, words: readonly string[]])[] = [
  ['init', ['init', 'store']],
  ['backup', ['backup', '100', '--disk', 'd=a.raw', '--config', '100.conf', '--blob', 'vars.fd', '--label', 'a=b']],
  ['notes', ['notes', '100', '--set', 'text']],
  ['list', ['list']],
  ['show', ['show', '100']],
  ['diff', ['diff', '100', '100']],
  ['verify', ['verify', '--older-than', '1d']],
  ['restore', ['restore', '100', '--to', 'out']],
  ['export', ['export', '100', '--format', 'vma', '--output', 'dump/']],
  ['import', ['import', 'dump', '--guest', '7']],
  ['show', ['show', 'out.vma']],
  ['list', ['list', 'out.vma']],
  ['protect', ['protect', '100']],
  ['protect', ['protect', '100', '--off']],
  ['prune', ['prune', '--keep-last', '1']],
  ['status', ['status', '--max-age', '1d', '--config-file', 'vmar.yaml']],
  ['stats', ['stats']],
  ['report', ['report', '--html', 'page.html']],
  ['gc', ['gc']],
  ['init', ['init', 'other']],
  ['copy', ['copy', '--all', '--to', 'other']],
  ['job check', ['job', 'check', '--config-file', 'vmar.yaml']],
  ['job run, job history', ['job', 'run', 'nightly', '--config-file', 'vmar.yaml']],
  ['job run, job history', ['job', 'history', '--config-file', 'vmar.yaml']],
  ['job list', ['job', 'list', '--config-file', 'vmar.yaml']],
  ['job install-timers', ['job', 'install-timers', '--config-file', 'vmar.yaml', '--directory', 'units']],
  ['forget', ['forget', '100']],
];

describe('docs/JSON.md', () => {
  it('has every field of every document, and every document all that its heading names', async () => {
    const wrong: string[] = [];
    for (const [section, words] of COMMANDS) {
      const given = words.map((word) => (word === 'out.vma' ? vmaFile() : word));
      const finished = await bench.run(['--json', ...given], { env: { VMAR_DATASTORE: bench.store } });
      const document = finished.json();
      if (finished.status !== 0) wrong.push(`${words.join(' ')}: ${finished.text}`);
      for (const key of undocumented(section, document)) wrong.push(`${words.join(' ')}: ${key} has no words`);
      const isForeign = given.some((word) => word.endsWith('.vma'));
      if (!isForeign && !isAsPromised(section, document)) wrong.push(`${words.join(' ')}: not as its heading says`);
    }
    expect(wrong).toEqual([]);
  });

  it('has the fields of serve', async () => {
    const serving = await serve(bench, ['7', '--socket', bench.path('socket')]);
    expect(undocumented('serve', serving.document)).toEqual([]);
    expect((await serving.stop()).text.trimEnd().split('\n')).toHaveLength(1);
  });

  it('has the fields of errors', async () => {
    const error = await bench.error(['restore', '7', '--disk', 'none=x']);
    expect(undocumented('Errors, and exit status', error)).toEqual([]);
  });
});

/** The one that was exported. */
function vmaFile(): string {
  return bench.path('dump', readdirSync(bench.path('dump')).find((name) => name.endsWith('.vma')) ?? '');
}

function undocumented(section: string, document: Json): string[] {
  const known = wordsOf(section);
  return [...keysOf(document)].filter((key) => !known.has(key));
}

/** The words in the code of a section, and of those that it refers to. */
function wordsOf(section: string, seen = new Set<string>()): Set<string> {
  const text = sections.get(section);
  if (text === undefined) throw new Error(`docs/JSON.md has no section ${section}`);
  seen.add(section);
  const found = new Set(codeOf(text).flatMap((code) => code.match(/[A-Za-z]+/g) ?? []));
  for (const [, other = ''] of text.matchAll(/as in `([a-z ]+)`/g)) {
    if (sections.has(other) && !seen.has(other)) for (const word of wordsOf(other, seen)) found.add(word);
  }
  return found;
}

function codeOf(text: string): string[] {
  return [...text.replace(/```[\s\S]*?```/g, (block) => block.replaceAll('`', '')).matchAll(/`([^`]+)`/g)].map(
    ([, code]) => code ?? '',
  );
}

/** Whether it has all fields of a document that stands in the section, not looking into what is in brackets. */
function isAsPromised(section: string, document: Json): boolean {
  const documents = codeOf(sections.get(section) ?? '').filter((code) => code.startsWith('{'));
  return documents.some((code) => {
    let fields = code.slice(1, -1);
    for (let before = ''; before !== fields; ) {
      before = fields;
      fields = fields.replace(/[[{][^[\]{}]*[\]}]/g, '');
    }
    return (fields.match(/[A-Za-z]+/g) ?? []).every((field) => field in document);
  });
}

/** All keys, but not those that users choose. */
function keysOf(value: Json, found = new Set<string>()): Set<string> {
  if (Array.isArray(value)) for (const each of value) keysOf(each, found);
  else if (typeof value === 'object' && value !== null) {
    for (const [key, inner] of Object.entries(value)) {
      found.add(key);
      if (key !== 'labels') keysOf(inner, found);
    }
  }
  return found;
}
