// SPDX-License-Identifier: MIT

import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { TABLE_CHUNK_BYTES } from '#vmar/formats/vmar/trailer.js';
import { BugError, DamageError, NotFoundError } from '#vmar/src/base/errors.js';
import { ChunkIndex } from '#vmar/src/store/chunk-index.js';
import { Child } from './child.js';
import { KeptLog, type SampleTable, sampleId, sampleTable } from './samples.js';
import { temporaryDirectory } from './temporary-directory.js';

const STORE = { storeUuid: Buffer.alloc(16, 7) };

async function openIndex(cacheDir = temporaryDirectory(), log = new KeptLog()): Promise<ChunkIndex> {
  const index = await ChunkIndex.open(cacheDir, STORE, log);
  onTestFinished(() => index.close().catch(() => undefined));
  return index;
}

/** In pages as a pack's trailer has them. */
function* pages(table: SampleTable): Generator<Uint8Array> {
  const step = 341 * TABLE_CHUNK_BYTES;
  for (let at = 0; at < table.entries.length; at += step) yield table.entries.subarray(at, at + step);
}

async function add(index: ChunkIndex, table: SampleTable): Promise<void> {
  await index.addPack(table.packId, table.footerSeal, pages(table));
}

function expectAll(index: ChunkIndex, table: SampleTable): void {
  const wrong = table.ids.filter((id, i) => {
    const hit = index.get(id);
    const asAdded = hit?.frame === i && hit.offsetBytes === 2 * i && hit.lengthBytes === 3 * i + 1;
    return hit?.packId !== table.packId || !asAdded;
  });
  expect(wrong).toEqual([]);
}

function expectNone(index: ChunkIndex, table: SampleTable): void {
  expect(table.ids.filter((id) => index.get(id) !== undefined)).toEqual([]);
}

describe('ChunkIndex', () => {
  it('finds what was added, and nothing else', async () => {
    const index = await openIndex();
    const tables = [sampleTable('a', 9000), sampleTable('b', 1), sampleTable('c', 341), sampleTable('empty', 0)];
    for (const table of tables) await add(index, table);
    for (const table of tables) expectAll(index, table);
    expectNone(index, sampleTable('other', 100));
    expect(index.get(Buffer.alloc(32))).toBeUndefined();
    expect([...index.packs()].sort()).toEqual(tables.map((table) => table.packId).sort());
  });

  it('keeps it', async () => {
    const cacheDir = temporaryDirectory();
    const first = await openIndex(cacheDir);
    await add(first, sampleTable('a', 500));
    await first.close();
    const log = new KeptLog();
    const second = await openIndex(cacheDir, log);
    expectAll(second, sampleTable('a', 500));
    expect(log.infos).toEqual([]);
  });

  it('takes tables in pieces of any size, also as they come', async () => {
    const index = await openIndex();
    const table = sampleTable('a', 10000);
    async function* pieces() {
      let at = 0;
      for (const count of [1, 4095, 1, 4097, 0, 1806]) {
        yield table.entries.subarray(at, at + count * TABLE_CHUNK_BYTES);
        at += count * TABLE_CHUNK_BYTES;
      }
    }
    await index.addPack(table.packId, table.footerSeal, pieces());
    expectAll(index, table);
  });

  it('finds the copy that was added last', async () => {
    const index = await openIndex();
    const older = sampleTable('a', 100);
    const newer = { ...older, packId: sampleId('newer') };
    await add(index, older);
    await add(index, newer);
    expectAll(index, newer);
    await index.removePack(older.packId, pages(older));
    expectAll(index, newer);
  });

  it('forgets a pack, with its table or without', async () => {
    const index = await openIndex();
    const [a, b, c] = [sampleTable('a', 600), sampleTable('b', 600), sampleTable('c', 600)];
    for (const table of [a, b, c]) await add(index, table);
    await index.removePack(a.packId);
    await index.removePack(b.packId, pages(b));
    await index.removePack(sampleId('never there'));
    expectNone(index, a);
    expectNone(index, b);
    expectAll(index, c);
    await add(index, a);
    expectAll(index, a);
    expectNone(index, b);
  });

  it('does not count a pack whose table could not be read to its end', async () => {
    const index = await openIndex();
    const table = sampleTable('a', 9000);
    const failing = (function* () {
      yield table.entries.subarray(0, 8000 * TABLE_CHUNK_BYTES);
      throw new DamageError('page', 'a page is damaged');
    })();
    await expect(index.addPack(table.packId, table.footerSeal, failing)).rejects.toMatchObject({ code: 'page' });
    expect(index.packs().size).toBe(0);
    expectNone(index, table);
    await add(index, table);
    expectAll(index, table);
  });

  it('refuses ids and seals that are none', async () => {
    const index = await openIndex();
    await expect(index.addPack('x', Buffer.alloc(16), [])).rejects.toBeInstanceOf(BugError);
    await expect(index.addPack(sampleId('a'), Buffer.alloc(15), [])).rejects.toBeInstanceOf(BugError);
  });

  it('can be for one run only', async () => {
    const directory = temporaryDirectory();
    const index = await ChunkIndex.openTemporary(directory);
    await add(index, sampleTable('a', 500));
    expectAll(index, sampleTable('a', 500));
    await index.close();
    const again = await ChunkIndex.openTemporary(temporaryDirectory());
    expectNone(again, sampleTable('a', 500));
    await again.close();
  });
});

describe('ChunkIndex.reconcile', () => {
  it('adds what is missing and drops what is gone', async () => {
    const index = await openIndex();
    const [a, b, c] = [sampleTable('a', 50), sampleTable('b', 50), sampleTable('c', 50)];
    await add(index, a);
    await add(index, b);
    const read: string[] = [];
    const tables = new Map([a, b, c].map((table) => [table.packId, table]));
    const readTable = async (packId: string) => {
      read.push(packId);
      const table = tables.get(packId)!;
      return { footerSeal: table.footerSeal, pages: pages(table) };
    };
    expect(await index.reconcile(async () => ({ ids: [b.packId, c.packId] }), readTable)).toEqual({
      added: 1,
      removed: 1,
      unreadable: [],
    });
    expect(read).toEqual([c.packId]);
    expectNone(index, a);
    expectAll(index, b);
    expectAll(index, c);
    expect(await index.reconcile(async () => ({ ids: [b.packId, c.packId] }), readTable)).toEqual({
      added: 0,
      removed: 0,
      unreadable: [],
    });
    expect(await index.reconcile(async () => ({ ids: [] }), readTable)).toEqual({
      added: 0,
      removed: 2,
      unreadable: [],
    });
    expect(index.packs().size).toBe(0);
  });

  it('does not take a pack for gone that came after the packs were looked at', async () => {
    const index = await openIndex();
    const late = sampleTable('late', 5);
    const listPacks = async () => {
      await add(index, late);
      return { ids: [] };
    };
    const none = async () => ({ footerSeal: late.footerSeal, pages: [] });
    expect(await index.reconcile(listPacks, none)).toMatchObject({ removed: 0 });
    expectAll(index, late);
  });

  it('adds many small packs together, and of those that are not wanted none', async () => {
    const index = await openIndex();
    const tables = Array.from({ length: 200 }, (_, number) => sampleTable(`small ${number}`, 1 + (number % 3)));
    const known = new Map(tables.map((table) => [table.packId, table]));
    const readTable = async (packId: string) => {
      const table = known.get(packId)!;
      if (packId === tables[70]!.packId) throw new DamageError('container-cut', 'cut');
      return { footerSeal: table.footerSeal, pages: pages(table) };
    };
    const ids = tables.map(({ packId }) => packId);
    const wanted = new Set(ids.slice(50, 150));
    const first = await index.reconcile(async () => ({ ids, isWanted: (id) => wanted.has(id) }), readTable);
    expect(first).toMatchObject({ added: 99, removed: 0, unreadable: [{ packId: ids[70] }] });
    for (const [number, table] of tables.entries()) {
      if (wanted.has(table.packId) && number !== 70) expectAll(index, table);
      else expectNone(index, table);
    }
    expect(await index.reconcile(async () => ({ ids }), readTable)).toMatchObject({ added: 100, removed: 0 });
    for (const [number, table] of tables.entries()) if (number !== 70) expectAll(index, table);
    expectNone(index, tables[70]!);
  });

  it('leaves out packs that cannot be read, and passes over those that went away', async () => {
    const index = await openIndex();
    const [damaged, gone, good] = [sampleTable('damaged', 5), sampleTable('gone', 5), sampleTable('good', 5)];
    const error = new DamageError('container-cut', 'cut');
    const readTable = async (packId: string) => {
      if (packId === damaged.packId) throw error;
      if (packId === gone.packId) throw new NotFoundError('no-such-file', 'gone');
      return { footerSeal: good.footerSeal, pages: pages(good) };
    };
    const result = await index.reconcile(async () => ({ ids: [damaged.packId, gone.packId, good.packId] }), readTable);
    expect(result).toEqual({ added: 1, removed: 0, unreadable: [{ packId: damaged.packId, error }] });
    expectAll(index, good);
  });
});

describe('an index in several hands', () => {
  const source = (cacheDir: string, body: string) => `
    import { createHash } from 'node:crypto';
    import { ChunkIndex } from '#vmar/src/store/chunk-index.js';
    const sha = (text) => createHash('sha256').update(text).digest();
    const table = (name, count) => {
      const ids = Array.from({ length: count }, (_, i) => sha(name + ' ' + i)).sort(Buffer.compare);
      const entries = Buffer.alloc(count * 48);
      for (const [i, id] of ids.entries()) {
        entries.set(id, i * 48);
        entries.writeUInt32LE(i, i * 48 + 32);
        entries.writeUInt32LE(2 * i, i * 48 + 36);
        entries.writeUInt32LE(3 * i + 1, i * 48 + 40);
      }
      return { packId: sha(name).toString('hex').slice(0, 32), ids, entries };
    };
    const index = await ChunkIndex.open(${JSON.stringify(cacheDir)}, { storeUuid: Buffer.alloc(16, 7) });
    const add = async ({ packId, entries }) => await index.addPack(packId, Buffer.alloc(16, 3), [entries]);
    ${body}
  `;

  it('shows one process what another adds', async () => {
    const cacheDir = temporaryDirectory();
    const index = await openIndex(cacheDir);
    await add(index, sampleTable('ours', 100));
    const other = Child.start(
      source(
        cacheDir,
        `await add(table('theirs', 3000));
         console.log(table('ours', 100).ids.filter((id) => index.get(id) !== undefined).length);
         await index.close();`,
      ),
    );
    expect(await other.line()).toBe('100');
    expect(await other.end()).toBe(0);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expectAll(index, sampleTable('theirs', 3000));
    expectAll(index, sampleTable('ours', 100));
  });

  it('is written by several at once', async () => {
    const cacheDir = temporaryDirectory();
    const names = ['p', 'q', 'r'];
    const children = names.map((name) =>
      Child.start(
        source(cacheDir, `for (let i = 0; i < 6; i++) await add(table('${name}' + i, 2000)); await index.close();`),
      ),
    );
    expect(await Promise.all(children.map((child) => child.end()))).toEqual([0, 0, 0]);
    const log = new KeptLog();
    const index = await openIndex(cacheDir, log);
    expect(log.infos).toEqual([]);
    expect(index.packs().size).toBe(18);
    for (const name of names) for (let i = 0; i < 6; i++) expectAll(index, sampleTable(`${name}${i}`, 2000));
  });

  it('is whole after a process was killed in the middle of adding', async () => {
    const cacheDir = temporaryDirectory();
    for (let round = 0; round < 3; round++) {
      const name = `k${round}`;
      const other = Child.start(
        source(
          cacheDir,
          `await add(table('${name} done', 2000));
           const rest = table('${name} cut', 30000);
           console.log('adding');
           await add(rest);
           console.log('added');
           setInterval(() => {}, 1000);`,
        ),
      );
      expect(await other.line()).toBe('adding');
      await new Promise((resolve) => setTimeout(resolve, 20 * round));
      await other.kill();
      const log = new KeptLog();
      const index = await openIndex(cacheDir, log);
      expect(log.infos).toEqual([]);
      expectAll(index, sampleTable(`${name} done`, 2000));
      const cut = sampleTable(`${name} cut`, 30000);
      if (index.packs().has(cut.packId)) expect(index.get(cut.ids[29999]!)).toBeDefined();
      else {
        expectNone(index, cut);
        await add(index, cut);
      }
      expect(cut.ids.every((id) => index.get(id) !== undefined)).toBe(true);
      await index.close();
    }
  });

  it('loses nothing that one process writes while others open and close', async () => {
    const cacheDir = temporaryDirectory();
    const writer = Child.start(
      source(
        cacheDir,
        `for (let i = 0; i < 80; i++) await add(table('w' + i, 300)); console.log('written'); await index.close();`,
      ),
    );
    const written = writer.line();
    let done = false;
    void written.then(() => {
      done = true;
    });
    let opened = 0;
    for (; !done || opened < 10; opened++) await (await ChunkIndex.open(cacheDir, STORE)).close();
    expect(await written).toBe('written');
    expect(await writer.end()).toBe(0);
    const index = await openIndex(cacheDir);
    expect(index.packs().size).toBe(80);
    for (let i = 0; i < 80; i++) expectAll(index, sampleTable(`w${i}`, 300));
  });

  it('may be opened twice in one process', async () => {
    const cacheDir = temporaryDirectory();
    const first = await openIndex(cacheDir);
    const second = await openIndex(cacheDir);
    await add(first, sampleTable('a', 100));
    expectAll(second, sampleTable('a', 100));
    await first.close();
    await add(second, sampleTable('b', 100));
    expectAll(second, sampleTable('b', 100));
    await second.close();
    expectAll(await openIndex(cacheDir), sampleTable('b', 100));
  });

  it('keeps the stores of one host apart', async () => {
    const cacheDir = temporaryDirectory();
    const ours = await openIndex(cacheDir);
    const theirs = await ChunkIndex.open(cacheDir, { storeUuid: randomBytes(16) });
    await add(theirs, sampleTable('a', 10));
    expectNone(ours, sampleTable('a', 10));
    await theirs.close();
  });
});

describe('an index without room', () => {
  it('says where it cannot be made', async () => {
    const file = join(temporaryDirectory(), 'file');
    const { writeFileSync } = await import('node:fs');
    writeFileSync(file, '');
    await expect(ChunkIndex.open(join(file, 'cache'), STORE)).rejects.toMatchObject({
      exitStatus: 1,
      advice: expect.stringContaining('VMAR_CACHE_DIR'),
    });
  });
});
