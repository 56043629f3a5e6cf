// SPDX-License-Identifier: MIT
// Datastores of a version or with features that this program does not know: refused by name, and not touched.

import { readFileSync, writeFileSync } from 'node:fs';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { NO_FEATURES } from '#vmar/formats/vmar/features.js';
import { createHasher } from '#vmar/formats/vmar/hash.js';
import { decodeSuperblock, encodeSuperblock } from '#vmar/formats/vmar/superblock.js';
import { Bench } from './bench.js';
import { mixedImage } from './images.js';

const bench = new Bench();
const path = bench.path('store', 'datastore.pb');
const BACKUP = ['backup', '100', '--disk', 'd=a.raw'];
let whole: Buffer;

beforeAll(async () => {
  await bench.json(['init', bench.store]);
  mixedImage(bench.path('a.raw'));
  await bench.json([...BACKUP, '--time', '1']);
  whole = readFileSync(path);
});

afterEach(() => writeFileSync(path, whole));

describe('a datastore that is newer', () => {
  it('by its version: 1', async () => {
    const newer = Buffer.from(whole);
    newer.writeUInt16LE(2, 8);
    const body = newer.subarray(0, -32);
    createHasher('blake3', 'seal')
      .digest(body)
      .forEach((byte, index) => {
        newer[body.length + index] = byte;
      });
    writeFileSync(path, newer);
    for (const words of [['list'], ['verify'], ['show', '100'], BACKUP]) {
      expect(await bench.error(words), words[0]).toMatchObject({ exit: 1, object: path });
    }
  });

  it('by an incompatible feature: 1, and the feature is named', async () => {
    const superblock = decodeSuperblock(whole, path);
    writeFileSync(path, encodeSuperblock({ ...superblock, features: { ...NO_FEATURES, incompatible: 1n } }));
    const error = await bench.error(['list']);
    expect(error).toMatchObject({ exit: 1, object: path });
    expect(JSON.stringify(error)).toContain('encryption');
  });

  it('by a feature for reading only: it is read, not written', async () => {
    const superblock = decodeSuperblock(whole, path);
    writeFileSync(path, encodeSuperblock({ ...superblock, features: { ...NO_FEATURES, readOnlyCompatible: 1n } }));
    expect((await bench.json(['list'])).backups).toHaveLength(1);
    expect(await bench.json(['verify'])).toMatchObject({ ok: true });
    await bench.json(['restore', '100', '--to', 'out']);
    for (const words of [BACKUP, ['forget', '100']]) {
      const error = await bench.error(words);
      expect(error, words[0]).toMatchObject({ exit: 1 });
      expect(JSON.stringify(error)).toContain('parity');
    }
    expect((await bench.json(['list'])).backups).toHaveLength(1);
  });

  it('by a compatible feature: nobody minds', async () => {
    const superblock = decodeSuperblock(whole, path);
    writeFileSync(path, encodeSuperblock({ ...superblock, features: { ...NO_FEATURES, compatible: 1n << 40n } }));
    await bench.json([...BACKUP, '--time', '2']);
  });
});
