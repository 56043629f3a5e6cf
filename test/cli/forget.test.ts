// SPDX-License-Identifier: MIT

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { decodeSidecar, encodeSidecar } from '#vmar/formats/vmar/sidecar.js';
import { Bench } from './bench.js';
import { mixedImage } from './images.js';

const bench = new Bench();
const id = (guest: string, second: number): string => `vm/${guest}/2001-09-09T01:46:4${second}Z`;
const manifest = (name: string): string => bench.path('store', 'manifests', `${name}.manifest`);
const sidecar = (name: string): string => bench.path('store', 'manifests', `${name}.sidecar`);

beforeAll(async () => {
  await bench.json(['init', bench.store]);
  mixedImage(bench.path('a.raw'));
  for (const guest of ['a', 'b']) {
    for (const second of [0, 1, 2]) {
      const time = String(1_000_000_000 + second);
      await bench.json(['backup', guest, '--disk', 'd=a.raw', '--time', time, '--label', `n=${second}`]);
    }
  }
});

function protect(name: string): void {
  const path = sidecar(name);
  writeFileSync(path, encodeSidecar({ ...decodeSidecar(readFileSync(path), path), isProtected: true }, 'blake3'));
}

describe('vmar forget', () => {
  it('removes backups with their sidecars, and leaves the others restorable', async () => {
    expect(await bench.json(['forget', id('a', 0), 'a/2001-09-09T01:46:41Z'])).toEqual({
      forgotten: [id('a', 0), id('a', 1)],
    });
    for (const second of [0, 1]) {
      expect(existsSync(manifest(id('a', second)))).toBe(false);
      expect(existsSync(sidecar(id('a', second)))).toBe(false);
    }
    expect((await bench.json(['list', 'a'])).backups).toHaveLength(1);
    await bench.json(['restore', 'a', '--to', 'out']);
    expect(readFileSync(bench.path('out', 'd.raw')).equals(readFileSync(bench.path('a.raw')))).toBe(true);
    expect(await bench.json(['verify'])).toMatchObject({ ok: true });
  });

  it('forgets all or none', async () => {
    expect(await bench.error(['forget', id('b', 0), 'c'])).toMatchObject({ exit: 4, object: 'c' });
    protect(id('b', 1));
    expect(await bench.error(['forget', id('b', 0), id('b', 1)])).toMatchObject({
      exit: 1,
      code: 'protected',
      object: id('b', 1),
    });
    expect((await bench.json(['list', 'b'])).backups.map((entry: { protected: boolean }) => entry.protected)).toEqual([
      false,
      true,
      false,
    ]);
  });

  it('takes a name twice as once, and prints a line for each', async () => {
    const { status, text } = await bench.run(['forget', 'b', 'b/latest']);
    expect({ status, text }).toEqual({ status: 0, text: `forgot ${id('b', 2)}\n` });
  });

  it('asks which', async () => {
    expect(await bench.error(['forget', 'vm/b/2001'])).toMatchObject({ exit: 2, code: 'ambiguous' });
  });

  it('of an archive is for rm', async () => {
    expect(await bench.error(['forget', './a.vmar'])).toMatchObject({ exit: 2 });
  });

  it('removes a damaged backup, unless it may be protected', async () => {
    for (const name of [id('b', 0), id('b', 1)]) {
      const bytes = readFileSync(manifest(name));
      bytes[60]! ^= 1;
      writeFileSync(manifest(name), bytes);
    }
    expect(await bench.error(['forget', id('b', 1)])).toMatchObject({ exit: 1, code: 'protected' });
    expect(await bench.json(['forget', id('b', 0)])).toEqual({ forgotten: [id('b', 0)] });
    expect(existsSync(sidecar(id('b', 0)))).toBe(false);
  });
});
