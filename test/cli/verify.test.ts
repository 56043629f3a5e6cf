// SPDX-License-Identifier: MIT

import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { Bench } from './bench.js';
import { CLUSTER, makeImage, mixedImage, noise } from './images.js';

const bench = new Bench();
const [A, B] = ['vm/a/2001-09-09T01:46:40Z', 'vm/b/2001-09-09T01:46:40Z'];

beforeAll(async () => {
  await bench.json(['init', bench.store]);
  mixedImage(bench.path('a.raw'));
  makeImage(bench.path('b.raw'), 40 * CLUSTER, [{ at: 0, bytes: noise(40) }]);
  await bench.json(['backup', 'a', '--disk', 'd=a.raw', '--time', '1000000000', '--label', 'k=v']);
  await bench.json(['backup', 'b', '--disk', 'e=b.raw', '--time', '1000000000']);
});

/** All files below a directory of the store, the largest first. */
function files(directory: string): string[] {
  return readdirSync(bench.path('store', directory), { recursive: true, encoding: 'utf8' })
    .map((name) => join(directory, name))
    .filter((name) => statSync(bench.path('store', name)).isFile())
    .sort((x, y) => statSync(bench.path('store', y)).size - statSync(bench.path('store', x)).size);
}

/** Does something while a byte of a file of the store is another one. */
async function flipped(name: string, at: number, action: () => Promise<void>): Promise<void> {
  const path = bench.path('store', name);
  const whole = readFileSync(path);
  const changed = Buffer.from(whole);
  changed[at]! ^= 0x10;
  writeFileSync(path, changed);
  try {
    await action();
  } finally {
    writeFileSync(path, whole);
  }
}

describe('vmar verify of what is whole', () => {
  it.each([
    ['everything', []],
    ['headers, tables and maps', ['--quick']],
    ['ids by the other implementation too', ['--portable']],
    ['without threads', ['--workers', '0']],
  ])('%s', async (_, flags) => {
    const document = await bench.json(['verify', ...flags]);
    expect(document).toMatchObject({
      ok: true,
      damage: [],
      checked: { backups: 2, disks: 2, packs: 4, chunks: expect.any(Number), storedBytes: expect.any(Number) },
    });
    expect(Object.keys(document.checked).sort()).toEqual(
      [
        'backups',
        'chunks',
        'clusters',
        'disks',
        'extents',
        'frames',
        'mapPages',
        'packs',
        'rawBytes',
        'storedBytes',
      ].sort(),
    );
  });

  it('some backups, by any of their names', async () => {
    expect(await bench.json(['verify', 'a'])).toMatchObject({ ok: true, checked: { backups: 1 } });
    expect(await bench.json(['verify', 'a/latest', B, 'vm/b'])).toMatchObject({ ok: true, checked: { backups: 2 } });
    expect(await bench.error(['verify', 'a', 'c'])).toMatchObject({ exit: 4, object: 'c' });
  });

  it('says so in one line, and nothing with --quiet', async () => {
    expect(await bench.run(['verify'])).toMatchObject({ status: 0, text: expect.stringMatching(/^no damage: .*\n$/) });
    expect(await bench.run(['--quiet', 'verify'])).toMatchObject({ status: 0, text: '', stderr: '' });
  });
});

describe('vmar verify of what is damaged exits with 3 and names it:', () => {
  it('data in a pack, and whom it concerns', async () => {
    const pack = files('packs')[0]!;
    await flipped(pack, 1 << 20, async () => {
      const { status, json } = await bench.run(['--json', 'verify']);
      expect(status).toBe(3);
      const { ok, damage } = json();
      expect(ok).toBe(false);
      expect(damage).toHaveLength(1);
      expect(damage[0]).toMatchObject({ file: pack, kind: 'frame', backups: [B], disks: [`${B}:e`] });
      expect(damage[0].offset).toBeLessThanOrEqual(1 << 20);
      expect(damage[0].offset + damage[0].length).toBeGreaterThan(1 << 20);
      expect(await bench.json(['verify', 'a'])).toMatchObject({ ok: true });
      expect((await bench.run(['verify', 'b'])).status).toBe(3);
      expect(await bench.json(['verify', '--quick'])).toMatchObject({ ok: true });
      const { text } = await bench.run(['--quiet', 'verify']);
      expect(text).toContain(pack);
      expect(text).toContain(`needed by ${B}:e`);
      expect(text).toContain('DAMAGED: 1 place;');
    });
  });

  it('a manifest', async () => {
    const name = `manifests/${A}.manifest`;
    await flipped(name, 50, async () => {
      const { status, json } = await bench.run(['--json', 'verify']);
      expect(status).toBe(3);
      expect(json().damage).toEqual([expect.objectContaining({ file: name, kind: 'manifest', backups: [A] })]);
    });
  });

  it('a sidecar', async () => {
    const name = `manifests/${A}.sidecar`;
    await flipped(name, 50, async () => {
      const { status, json } = await bench.run(['--json', 'verify']);
      expect(status).toBe(3);
      expect(json().damage).toEqual([expect.objectContaining({ file: name, kind: 'sidecar', backups: [A] })]);
    });
  });

  it('the superblock', async () => {
    await flipped('datastore.pb', 45, async () => {
      const { status, json } = await bench.run(['--json', 'verify']);
      expect(status).toBe(3);
      expect(json().damage).toEqual([expect.objectContaining({ file: 'datastore.pb', kind: 'superblock' })]);
      expect(await bench.error(['list'])).toMatchObject({ exit: 3, object: bench.path('store', 'datastore.pb') });
    });
  });

  it('a pack that is gone', async () => {
    const path = bench.path('store', files('packs')[0]!);
    const whole = readFileSync(path);
    rmSync(path);
    try {
      const { status, json } = await bench.run(['--json', 'verify']);
      expect(status).toBe(3);
      expect(json().damage[0]).toMatchObject({ kind: 'missing-chunk', backups: [B] });
    } finally {
      writeFileSync(path, whole);
    }
  });

  it('and nothing once it is whole again', async () => {
    expect(await bench.json(['verify'])).toMatchObject({ ok: true });
  });
});
