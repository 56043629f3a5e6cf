// SPDX-License-Identifier: MIT
// A directory that nobody can look into takes no backup along but those that lie there.

import { chmodSync, cpSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Bench } from '../cli/bench.js';
import { mixedImage } from '../cli/images.js';
import { tool } from '../cli/serving.js';

const bench = new Bench();
const BACKUP = 'vm/100/2026-11-01T01:00:00Z';
const options = { minding: 'permissions' } as const;
const inStore = (path: string): string => bench.path('store', path);

/** Directories of packs that only the second guest needs. */
let ofSecond: string[] = [];

beforeAll(async () => {
  const env = { VMAR_DATASTORE: bench.path('whole') };
  for (const name of ['whole', 'other']) await bench.json(['init', bench.path(name)]);
  mixedImage(bench.path('a.raw'));
  mixedImage(bench.path('b.raw'));
  await bench.json(['backup', '100', '--disk', 'd=a.raw', '--time', '1793494800'], { env });
  const before = new Set(readdirSync(bench.path('whole', 'packs')));
  await bench.json(['backup', '101', '--disk', 'd=b.raw'], { env });
  ofSecond = readdirSync(bench.path('whole', 'packs')).filter((name) => !before.has(name));
});

beforeEach(() => cpSync(bench.path('whole'), bench.store, { recursive: true }));

afterEach(async () => {
  await tool('chmod', '-R', 'u+rwX', bench.store);
  rmSync(bench.store, { recursive: true });
});

async function expectRestored(name: string): Promise<void> {
  await bench.json(['restore', name, '--to', 'out', '--overwrite'], options);
  expect(readFileSync(bench.path('out', 'd.raw')).equals(readFileSync(bench.path('a.raw')))).toBe(true);
}

describe.each(['kept', 'new'])('with a %s index', (cache) => {
  it('a directory of packs that others need is no reason not to restore', async () => {
    if (cache === 'new') rmSync(bench.path('cache'), { recursive: true, force: true });
    for (const name of ofSecond) chmodSync(inStore(`packs/${name}`), 0);
    await expectRestored(BACKUP);
    expect(await bench.error(['restore', '101', '--to', 'none'], options)).not.toMatchObject({ exit: 0 });
    expect(await bench.error(['gc'], options)).toMatchObject({ exit: 1, code: 'no-permission' });
    expect(await bench.error(['verify'], options)).toMatchObject({ exit: 1, code: 'no-permission' });
    for (const name of ofSecond) chmodSync(inStore(`packs/${name}`), 0o700);
    expect(await bench.json(['verify'], options)).toMatchObject({ ok: true, checked: { backups: 2 } });
  });
});

it('a directory of a guest is no reason not to restore the others, and is named', async () => {
  chmodSync(inStore('manifests/vm/101'), 0);
  await expectRestored(BACKUP);
  await expectRestored('100/latest');
  const list = await bench.run(['--json', 'list'], options);
  expect(list.status).toBe(3);
  expect(list.json().backups).toMatchObject([{ backup: BACKUP }]);
  expect(list.stderr).toContain('manifests/vm/101');
  const object = inStore('manifests/vm/101');
  for (const words of [
    ['restore', '101', '--to', 'none'],
    ['gc'],
    ['verify'],
    ['copy', '--all', '--to', bench.path('other')],
  ]) {
    expect(await bench.error(words, options), words[0]).toMatchObject({ exit: 1, object });
  }
});
