// SPDX-License-Identifier: MIT

import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { decodeSidecar } from '#vmar/formats/vmar/sidecar.js';
import { lockGuest } from '#vmar/src/store/locks.js';
import { RealFs } from '#vmar/src/store/real-fs.js';
import { damage, makeBackups, protect } from './bare-backups.js';
import { Bench } from './bench.js';

const bench = new Bench();
const id = (guest: string, day: number): string => `vm/${guest}/2024-03-0${day}T02:00:00Z`;

beforeAll(async () => {
  await bench.json(['init', bench.store]);
  makeBackups(
    bench.store,
    ['a', 'b', 'c'].flatMap((guest) => [id(guest, 1), id(guest, 2), id(guest, 3)]),
  );
});

async function protectedOf(guest: string): Promise<boolean[]> {
  const { backups } = (await bench.run(['--json', 'list', guest])).json();
  return backups.map((backup: { protected: boolean }) => backup.protected);
}

describe('vmar protect', () => {
  it('protects from forget and prune until it is taken away, and may be repeated', async () => {
    const document = { backups: [id('a', 3), id('a', 1)], protected: true };
    expect(await bench.json(['protect', 'a', id('a', 1), 'a/latest'])).toEqual({
      ...document,
      changed: document.backups,
    });
    expect(await bench.json(['protect', 'a', id('a', 1)])).toEqual({ ...document, changed: [] });
    expect(await protectedOf('a')).toEqual([true, false, true]);
    expect(await bench.error(['forget', id('a', 1)])).toMatchObject({ code: 'protected' });
    expect((await bench.json(['prune', 'a', '--keep-last', '1'])).removed).toEqual([]);

    const { status, text } = await bench.run(['protect', '--off', id('a', 1), id('a', 2)]);
    expect({ status, text }).toEqual({
      status: 0,
      text: `${id('a', 1)} is protected no more\n${id('a', 2)} was not protected\n`,
    });
    expect(await protectedOf('a')).toEqual([false, false, true]);
    expect((await bench.json(['prune', 'a', '--keep-last', '1'])).removed).toEqual([id('a', 1)]);
  });

  it('leaves labels as they are', async () => {
    protect(bench.store, id('b', 1));
    await bench.json(['protect', '--off', id('b', 1)]);
    const path = bench.path('store', 'manifests', `${id('b', 1)}.sidecar`);
    expect(decodeSidecar(readFileSync(path), path)).toMatchObject({
      isProtected: false,
      labels: new Map([['a', 'b']]),
    });
  });

  it('changes all or none', async () => {
    damage(bench.store, id('c', 2), 'manifest');
    expect(await bench.error(['protect', id('c', 1), 'd'])).toMatchObject({ exit: 4 });
    expect(await bench.error(['protect', id('c', 1), id('c', 2)])).toMatchObject({ exit: 3 });
    expect(await bench.error(['protect', './c.vmar'])).toMatchObject({ exit: 2, code: 'not-in-datastore' });
    const lock = await lockGuest(new RealFs(), bench.store, { namespace: '', guestType: 'vm', guestId: 'c' });
    expect(await bench.error(['protect', id('b', 2), id('c', 1)])).toMatchObject({ exit: 5, code: 'guest-busy' });
    await lock.release();
    expect(await protectedOf('b')).toEqual([false, false, false]);
    expect(await protectedOf('c')).toEqual([false, false]);
  });
});
