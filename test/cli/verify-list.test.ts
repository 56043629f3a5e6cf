// SPDX-License-Identifier: MIT
// vmar verify --list: what is remembered of each pack, and which backups need it.

import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { seededRandom } from '../base/random.js';
import { Bench, type Json } from './bench.js';

const MIB = 1 << 20;

describe('vmar verify --list', () => {
  const bench = new Bench();
  const list = async (...words: string[]): Promise<Json[]> => (await bench.json(['verify', '--list', ...words])).packs;
  const idOf = async (guest: string, night: number): Promise<string> =>
    (await bench.json(['list', guest])).backups.map(({ backup }: { backup: string }) => backup).sort()[night];
  let data: string;
  let nights: string[];

  beforeAll(async () => {
    await bench.json(['init', 'store']);
    const disk = seededRandom(1).bytes(2 * MIB);
    for (const time of ['1000000000', '1000086400']) {
      disk.fill(time.charCodeAt(5), 0, 65536);
      writeFileSync(bench.path('d.raw'), disk);
      await bench.json(['backup', '100', '--disk', 'd=d.raw', '--time', time]);
    }
    writeFileSync(bench.path('d.raw'), seededRandom(2).bytes(MIB));
    await bench.json(['backup', '200', '--disk', 'd=d.raw', '--time', '1000000000']);
    nights = [await idOf('100', 0), await idOf('100', 1)];
    data = (await list()).reduce((a, b) => (b.size > a.size ? b : a)).pack;
  }, 60_000);

  it('names the backups that need a pack, and says that it was never read', async () => {
    const all = await list();
    const files = readdirSync(bench.path('store', 'packs'), { recursive: true, encoding: 'utf8' });
    const packs = files.filter((name) => name.endsWith('.vmar')).map((name) => join('packs', name));
    expect(all.map(({ file }) => file).sort()).toEqual(packs.sort());
    for (const pack of all) expect(pack).not.toHaveProperty('read');
    const expected = { pack: data, backups: 2, guests: [{ guest: 'vm/100', backups: 2 }], neededBy: nights };
    expect(await list(data)).toMatchObject([expected]);
    expect(await list(`packs/${data.slice(0, 2)}/${data}.vmar`)).toMatchObject([expected]);
    expect((await bench.run(['verify', '--list', data])).text).toContain(`read whole: never\n2 backups need it:`);
  });

  it('lists the packs that a backup needs', async () => {
    for (const pack of await list('200')) expect(pack).toMatchObject({ guests: [{ guest: 'vm/200', backups: 1 }] });
    const both = await list(nights[0]!, nights[1]!);
    expect(both.some(({ pack }) => pack === data)).toBe(true);
    expect(both.length + (await list('200')).length).toBe((await list()).length);
  });

  it('says when they were read, and leaves out what was read since', async () => {
    await bench.json(['verify', '200']);
    const before = Date.now() / 1000;
    for (const { read, age } of await list('200')) {
      expect(Date.parse(read) / 1000).toBeGreaterThan(before - 60);
      expect(age).toBeLessThan(60);
    }
    const old = await list('--older-than', '1h');
    expect(old.some(({ pack }) => pack === data)).toBe(true);
    expect(await list('200', '--older-than', '1h')).toEqual([]);
    expect((await bench.run(['verify', '--list'])).text).toMatch(/min ago +vm\/200 \(1\)/);
  });

  it('knows who needed a pack also where that backup cannot be read, and where the pack is gone', async () => {
    await bench.json(['verify']);
    const manifest = bench.path('store', 'manifests', `${nights[0]}.manifest`);
    const bytes = readFileSync(manifest);
    writeFileSync(manifest, bytes.subarray(0, 40));
    expect((await list(data))[0].neededBy).toEqual(nights);
    writeFileSync(manifest, bytes);
    const path = bench.path('store', 'packs', data.slice(0, 2), `${data}.vmar`);
    const pack = readFileSync(path);
    rmSync(path);
    expect(await list(data)).toMatchObject([{ gone: true, neededBy: nights }]);
    expect((await bench.run(['verify', '--quick'])).status).toBe(3);
    const gone = (await list()).filter((each) => each.gone);
    expect(gone).toMatchObject([{ pack: data, damaged: expect.stringContaining('gone') }]);
    writeFileSync(path, pack);
  });

  it('refuses what is no pack, and what it does not do', async () => {
    expect(await bench.error(['verify', '--list', 'f'.repeat(32)])).toMatchObject({ exit: 4, code: 'no-such-pack' });
    expect(await bench.error(['verify', '--list', '999'])).toMatchObject({ exit: 4 });
    expect(await bench.error(['verify', '--list', '--quick'])).toMatchObject({ exit: 2, code: 'not-together' });
  });
});
