// SPDX-License-Identifier: MIT
// Root works on the datastore of another user, who can go on with it afterwards.

import { chmodSync, chownSync, mkdirSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { Bench } from './bench.js';
import { mixedImage } from './images.js';

const bench = new Bench();
const USER = 12_345;
const ROOT = fileURLToPath(new URL('../../', import.meta.url));
/** What a program of the user's must get at. */
const PLACES = [join(ROOT, 'dist'), join(ROOT, 'node_modules'), process.execPath, dirname(bench.directory)];

/** Root alone may work as somebody else. */
function whyNot(): string | undefined {
  if (process.getuid?.() !== 0) return 'not root';
  for (const place of PLACES) {
    for (let path = realpathSync(place); path !== '/'; path = dirname(path)) {
      if ((statSync(path).mode & 0o001) === 0) return `${path} is shut to others`;
    }
  }
  return undefined;
}

const problem = whyNot();
if (problem !== undefined) console.warn(`\n!!! NOT TESTED: root in the datastore of another user (${problem})\n`);

it.runIf(problem === undefined)(
  'root leaves a datastore to its owner',
  async () => {
    chmodSync(bench.directory, 0o777);
    const image = mixedImage(bench.path('a.raw'));
    chmodSync(image, 0o666);
    const as = ['setpriv', `--reuid=${USER}`, `--regid=${USER}`, '--clear-groups'];
    mkdirSync(bench.path('cache-2'));
    chownSync(bench.path('cache-2'), USER, USER);
    const user = { under: as, env: { VMAR_CACHE_DIR: bench.path('cache-2') } };
    await bench.json(['init', bench.store], user);
    await bench.json(['backup', '100', '--disk', `d=${image}`], user);
    for (const words of [
      ['backup', '200', '--disk', `d=${image}`, '--min-free', '1MiB'],
      ['notes', '100', '--set', 'x'],
    ]) {
      await bench.json(words);
    }
    await bench.json(['verify', '--budget', '1h']);
    await bench.json(['gc', '--max-unused', '0%']);
    const owners = readdirSync(bench.store, { recursive: true }).map(
      (name) => statSync(join(bench.store, `${name}`)).uid,
    );
    expect(new Set(owners)).toEqual(new Set([USER]));
    expect(await bench.json(['verify'], user)).toMatchObject({ ok: true, checked: { backups: 2 } });
    await bench.json(['backup', '200', '--disk', `d=${image}`], user);
    await bench.json(['gc'], user);
  },
  60_000,
);
