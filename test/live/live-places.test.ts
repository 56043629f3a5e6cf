// SPDX-License-Identifier: MIT
// vma-restore --live never takes one file for two things, however they are named, and says so before it touches any.

import { existsSync, linkSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { afterEach, beforeAll, expect, it } from 'vitest';
import { Bench } from '../cli/bench.js';
import { CLUSTER, makeImage, noise } from '../cli/images.js';

const bench = new Bench();
const at = (name: string) => bench.path(name);

beforeAll(async () => {
  await bench.json(['init', bench.store]);
  makeImage(at('a.raw'), 4 * CLUSTER, [{ at: 0, bytes: noise(4) }]);
  await bench.json(['backup', '100', '--disk', 'a=a.raw', '--disk', 'b=a.raw']);
  mkdirSync(at('dir'));
  symlinkSync(at('dir'), at('alias'));
});

const made = ['t.raw', 'link', 'hard', 'st', 'st.new', 'st.a', 'st.b', 'dir/t.raw', 's.sock'];
afterEach(() => {
  for (const name of made) rmSync(at(name), { force: true });
});

const refused = (...words: string[]) =>
  bench.error(['100', '--live', '--socket', 's.sock', ...words], { program: 'vma-restore' });
const same = { code: 'same-place', exit: 2 };

it('refuses a state file that is the target, and makes neither', async () => {
  expect(await refused('--disk', 'a=t.raw', '--state', 't.raw')).toMatchObject(same);
  expect(await refused('--disk', 'a=dir/t.raw', '--state', 'alias/t.raw')).toMatchObject(same);
  expect(await refused('--disk', 'a=st.new', '--state', 'st')).toMatchObject(same);
  expect(await refused('--disk', 'a=t.raw', '--disk', 'b=st.a', '--state', 'st')).toMatchObject(same);
  expect(await refused('--disk', 'a=s.sock')).toMatchObject(same);
  symlinkSync('t.raw', at('link'));
  expect(await refused('--disk', 'a=t.raw', '--state', 'link')).toMatchObject(same);
  expect(made.filter((name) => existsSync(at(name)))).toEqual([]);
});

it('refuses two disks to one target that has two names', async () => {
  symlinkSync('t.raw', at('link'));
  expect(await refused('--disk', 'a=t.raw', '--disk', 'b=link')).toMatchObject(same);
  makeImage(at('t.raw'), 4 * CLUSTER);
  linkSync(at('t.raw'), at('hard'));
  expect(await refused('--disk', 'a=t.raw', '--disk', 'b=hard')).toMatchObject(same);
});

it('refuses an NBD server as target, where nobody could say what a crash leaves', async () => {
  for (const target of ['nbd://localhost/x', 'nbd+unix:///x?socket=y']) {
    expect(await refused('--disk', `a=${target}`)).toMatchObject({ code: 'not-live', exit: 2 });
  }
});
