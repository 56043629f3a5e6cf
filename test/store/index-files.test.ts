// SPDX-License-Identifier: MIT
// Index files that must not be opened, and that are replaced.

import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { toHex } from '#vmar/src/base/bytes.js';
import { ChunkIndex } from '#vmar/src/store/chunk-index.js';
import { statePaths } from '#vmar/src/store/index-state.js';
import { Child } from './child.js';
import { KeptLog, sampleTable } from './samples.js';
import { temporaryDirectory } from './temporary-directory.js';

const STORE = { storeUuid: Buffer.alloc(16, 7) };
const TABLE = sampleTable('a', 3000);

function pathsOf(cacheDir: string) {
  return statePaths(join(cacheDir, toHex(STORE.storeUuid)));
}

/** An index with one pack, closed. */
async function filled(): Promise<string> {
  const cacheDir = temporaryDirectory();
  const index = await ChunkIndex.open(cacheDir, STORE);
  await index.addPack(TABLE.packId, TABLE.footerSeal, [TABLE.entries]);
  await index.close();
  return cacheDir;
}

/** What opening says; the index works whatever was there. */
async function reopened(cacheDir: string): Promise<{ infos: string[]; kept: boolean }> {
  const log = new KeptLog();
  const index = await ChunkIndex.open(cacheDir, STORE, log);
  const kept = index.get(TABLE.ids[0]!) !== undefined;
  await index.addPack(TABLE.packId, TABLE.footerSeal, [TABLE.entries]);
  expect(TABLE.ids.every((id) => index.get(id)?.packId === TABLE.packId)).toBe(true);
  await index.close();
  expect(log.warnings).toEqual([]);
  return { infos: log.infos, kept };
}

/** As if it had been left open, by a process of this start of the machine or of another. */
function leaveOpen(cacheDir: string, boot?: string): void {
  const { state } = pathsOf(cacheDir);
  const { clean, ...open } = JSON.parse(readFileSync(state, 'utf8'));
  expect(clean).toBeDefined();
  writeFileSync(state, JSON.stringify(boot === undefined ? open : { ...open, boot }));
}

describe('the files of an index', () => {
  it('are kept, private, and clean after the last close', async () => {
    const cacheDir = await filled();
    const { state, data } = pathsOf(cacheDir);
    const { clean } = JSON.parse(readFileSync(state, 'utf8'));
    const { size, mtimeNs } = statSync(data, { bigint: true });
    expect(clean).toEqual({ bytes: Number(size), changed: `${mtimeNs}`, sum: expect.any(Number) });
    expect(statSync(dirname(state)).mode & 0o777).toBe(0o700);
    expect(await reopened(cacheDir)).toEqual({ infos: [], kept: true });
  });

  it('stay clean when they are only read', async () => {
    const cacheDir = await filled();
    const { state, data } = pathsOf(cacheDir);
    const before = [readFileSync(state, 'utf8'), statSync(data, { bigint: true }).mtimeNs];
    const index = await ChunkIndex.open(cacheDir, STORE);
    expect(index.get(TABLE.ids[5]!)).toBeDefined();
    expect([readFileSync(state, 'utf8'), statSync(data, { bigint: true }).mtimeNs]).toEqual(before);
    await index.close();
    expect([readFileSync(state, 'utf8'), statSync(data, { bigint: true }).mtimeNs]).toEqual(before);
  });

  it('are not clean while they are written', async () => {
    const cacheDir = await filled();
    const index = await ChunkIndex.open(cacheDir, STORE);
    const other = sampleTable('b', 10);
    await index.addPack(other.packId, other.footerSeal, [other.entries]);
    expect(JSON.parse(readFileSync(pathsOf(cacheDir).state, 'utf8')).clean).toBeUndefined();
    const second = await ChunkIndex.open(cacheDir, STORE);
    await index.close();
    expect(JSON.parse(readFileSync(pathsOf(cacheDir).state, 'utf8')).clean).toBeUndefined();
    await second.close();
    expect(JSON.parse(readFileSync(pathsOf(cacheDir).state, 'utf8')).clean).toBeDefined();
  });

  it('are kept after a kill, and made anew after a power cut', async () => {
    const killed = await filled();
    leaveOpen(killed);
    expect(await reopened(killed)).toEqual({ infos: [], kept: true });
    const cut = await filled();
    leaveOpen(cut, '01234567-89ab-cdef-0123-456789abcdef');
    expect(await reopened(cut)).toEqual({ infos: [expect.stringContaining('went down')], kept: false });
  });

  it('are made anew when the data file is cut, also after a kill', async () => {
    for (const open of [false, true]) {
      for (const length of [0, 100, 4096, 8192, 20000, 100000]) {
        const cacheDir = await filled();
        truncateSync(pathsOf(cacheDir).data, length);
        if (open) leaveOpen(cacheDir);
        const { infos, kept } = await reopened(cacheDir);
        expect({ infos: infos.length, kept }, `${length} ${open}`).toEqual({ infos: 1, kept: false });
      }
    }
  });

  it('are made anew when the data file is garbage', async () => {
    for (const length of [1, 5000, 1 << 20]) {
      const cacheDir = await filled();
      writeFileSync(pathsOf(cacheDir).data, randomBytes(length));
      expect(await reopened(cacheDir)).toMatchObject({ infos: [expect.anything()], kept: false });
      const killed = await filled();
      writeFileSync(pathsOf(killed).data, randomBytes(length));
      leaveOpen(killed);
      expect(await reopened(killed)).toMatchObject({ infos: [expect.anything()], kept: false });
    }
  });

  it('are made anew when something else wrote into the middle of them', async () => {
    const cacheDir = await filled();
    const { data } = pathsOf(cacheDir);
    const bytes = readFileSync(data);
    randomBytes(4096).copy(bytes, bytes.length >> 1);
    writeFileSync(data, bytes);
    expect(await reopened(cacheDir)).toMatchObject({ infos: [expect.stringContaining('changed')], kept: false });
    const touched = await filled();
    utimesSync(pathsOf(touched).data, 1, 1);
    expect(await reopened(touched)).toMatchObject({ infos: [expect.anything()], kept: false });
  });

  it('are made anew when bits of them flipped behind the back of the file system', async () => {
    const cacheDir = await filled();
    const { data } = pathsOf(cacheDir);
    const { size } = statSync(data);
    for (let at = 9000; at < size; at += size >> 3) {
      const { mtimeNs } = statSync(data, { bigint: true });
      const bytes = readFileSync(data);
      bytes[at]! ^= 0x10;
      writeFileSync(data, bytes);
      execFileSync('touch', [
        '-d',
        `@${mtimeNs / 1_000_000_000n}.${`${mtimeNs % 1_000_000_000n}`.padStart(9, '0')}`,
        data,
      ]);
      expect(statSync(data, { bigint: true }).mtimeNs).toBe(mtimeNs);
      expect(await reopened(cacheDir), `${at}`).toEqual({ infos: [expect.stringContaining('damaged')], kept: false });
    }
  });

  it('are made anew when command after command was killed that had them open', async () => {
    const cacheDir = await filled();
    const source = `
      import { ChunkIndex } from '#vmar/src/store/chunk-index.js';
      await ChunkIndex.open(${JSON.stringify(cacheDir)}, { storeUuid: Buffer.alloc(16, 7) });
      process.kill(process.pid, 'SIGKILL');
    `;
    for (let killed = 0; killed < 2; killed++) await Child.start(source).end();
    expect(await reopened(cacheDir)).toEqual({ infos: [], kept: true });
    for (let killed = 0; killed < 3; killed++) await Child.start(source).end();
    expect(await reopened(cacheDir)).toEqual({ infos: [expect.stringContaining('killed')], kept: false });
    expect(await reopened(cacheDir)).toEqual({ infos: [], kept: true });
  });

  it('are made anew when the state is gone, garbage, or of another version or store', async () => {
    const good = JSON.parse(readFileSync(pathsOf(await filled()).state, 'utf8'));
    const bad = ['', '{', 'null', '[]', '{"schema":1}', JSON.stringify({ ...good, schema: 99 })];
    bad.push(JSON.stringify({ ...good, store: 'x' }), JSON.stringify({ ...good, clean: 7 }));
    for (const text of bad) {
      const cacheDir = await filled();
      writeFileSync(pathsOf(cacheDir).state, text);
      expect(await reopened(cacheDir), text).toMatchObject({ infos: [expect.anything()], kept: false });
    }
  });

  it('are made anew when they are those of another store', async () => {
    const cacheDir = temporaryDirectory();
    const other = await ChunkIndex.open(cacheDir, { storeUuid: Buffer.alloc(16, 9) });
    await other.addPack(TABLE.packId, TABLE.footerSeal, [TABLE.entries]);
    await other.close();
    const from = statePaths(join(cacheDir, '09'.repeat(16)));
    const to = pathsOf(cacheDir);
    mkdirSync(to.environment, { recursive: true });
    copyFileSync(from.data, to.data);
    writeFileSync(to.state, readFileSync(from.state, 'utf8').replace('09'.repeat(16), '07'.repeat(16)));
    leaveOpen(cacheDir);
    const { infos, kept } = await reopened(cacheDir);
    expect({ infos, kept }).toEqual({ infos: [expect.stringContaining('another datastore')], kept: false });
  });

  it('are made when all of them are gone', async () => {
    const cacheDir = await filled();
    const { rmSync } = await import('node:fs');
    rmSync(pathsOf(cacheDir).environment, { recursive: true });
    expect(await reopened(cacheDir)).toMatchObject({ infos: [expect.stringContaining('gone')], kept: false });
    rmSync(dirname(pathsOf(cacheDir).state), { recursive: true });
    expect(await reopened(cacheDir)).toEqual({ infos: [], kept: false });
    expect(existsSync(pathsOf(cacheDir).data)).toBe(true);
  });

  it('survive many that open and close and are killed at once', async () => {
    const cacheDir = await filled();
    const source = `
      import { createHash } from 'node:crypto';
      import { ChunkIndex } from '#vmar/src/store/chunk-index.js';
      for (let i = 0; i < 15; i++) {
        const index = await ChunkIndex.open(${JSON.stringify(cacheDir)}, { storeUuid: Buffer.alloc(16, 7) }, {
          info: (text) => console.log(text), warn: (text) => console.log(text), debug() {},
        });
        const packId = createHash('sha256').update(process.pid + ' ' + i).digest('hex').slice(0, 32);
        const entries = Buffer.alloc(48 * 100);
        for (let n = 0; n < 100; n++) createHash('sha256').update(packId + n).digest().copy(entries, n * 48);
        await index.addPack(packId, Buffer.alloc(16), [entries]);
        if (i === 7 && process.argv[1] === 'dies') process.kill(process.pid, 'SIGKILL');
        await index.close();
      }
      console.log('done');
    `;
    const children = [1, 2].map(() => Child.start(source));
    const dying = Child.start(source.replace("process.argv[1] === 'dies'", 'true'));
    await dying.end();
    expect(await Promise.all(children.map((child) => child.line()))).toEqual(['done', 'done']);
    expect(await reopened(cacheDir)).toEqual({ infos: [], kept: true });
  });
});
