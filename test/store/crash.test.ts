// SPDX-License-Identifier: MIT
// What is left after a crash between any two steps, and after any step that fails.

import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { VmarError } from '#vmar/src/base/errors.js';
import { openDatastore } from '#vmar/src/store/datastore.js';
import type { StoreFs } from '#vmar/src/store/fs.js';
import { initDatastore } from '#vmar/src/store/init.js';
import { commitManifest, forgetManifest, listManifests, readManifest } from '#vmar/src/store/manifests.js';
import { RealFs } from '#vmar/src/store/real-fs.js';
import { Session } from '#vmar/src/store/session.js';
import { readSidecar, writeSidecar } from '#vmar/src/store/sidecars.js';
import { CrashModel, type Survival } from './crash-model.js';
import { FaultFs } from './fault-fs.js';
import { type Operation, RecordingFs } from './recording-fs.js';
import { backup, guest, INIT, KeptLog, manifestBytes, NIGHT, newStore, place } from './samples.js';
import { temporaryDirectory } from './temporary-directory.js';

const SURVIVALS: readonly Survival[] = ['all', 'durable', 'names'];

/** Looks at what a crash after each number of operations leaves, in each way. */
async function afterEachCrash(
  start: CrashModel,
  operations: readonly Operation[],
  look: (root: string, done: number, survival: Survival) => Promise<void>,
): Promise<void> {
  const parent = temporaryDirectory();
  for (let done = 0; done <= operations.length; done++) {
    if (done > 0) start.apply(operations[done - 1]!);
    for (const survival of SURVIVALS) {
      const root = join(parent, 'crashed');
      start.materialize(root, survival);
      await look(root, done, survival);
      rmSync(root, { recursive: true });
    }
  }
}

async function commit(root: string, fs: StoreFs = new RealFs()): Promise<void> {
  const session = await Session.begin(place(root, fs), 'backup');
  try {
    const build = (timeSeconds: number) => manifestBytes(backup(timeSeconds, '100', 'ns'));
    await commitManifest(place(root, fs), session, guest('100', 'ns'), NIGHT, build);
  } finally {
    // Its failure is no failure of the commit; the next session sweeps.
    await session.end().catch(() => undefined);
  }
}

/** The next session after a crash leaves nothing of it in tmp/ and locks/. */
async function expectSwept(root: string): Promise<void> {
  const log = new KeptLog();
  await (await Session.begin(place(root, new RealFs(), log), 'backup')).end();
  expect(log.warnings).toEqual([]);
  expect([...readdirSync(join(root, 'tmp')), ...readdirSync(join(root, 'locks'))]).toEqual([]);
}

describe('a crash during init', () => {
  it('leaves a whole datastore, or what a second init completes', async () => {
    const root = join(temporaryDirectory(), 's');
    mkdirSync(root);
    const fs = new RecordingFs(new RealFs(), root);
    await initDatastore(root, INIT, fs);
    let whole = 0;
    await afterEachCrash(CrashModel.empty(), fs.operations, async (crashed, done, survival) => {
      if (existsSync(join(crashed, 'datastore.pb'))) whole++;
      else await initDatastore(crashed, INIT);
      await openDatastore(crashed, { cacheDir: '/nowhere' });
      expect(readdirSync(crashed).sort()).toEqual(['datastore.pb', 'locks', 'manifests', 'packs', 'state', 'tmp']);
      if (done === fs.operations.length && survival === 'durable') expect(whole).toBeGreaterThan(0);
    });
    expect(whole).toBe(5);
  });
});

describe('a crash during a commit', () => {
  it('leaves the whole backup or none, and a durable one once it resolved', async () => {
    const root = await newStore(join(temporaryDirectory(), 's'));
    const start = CrashModel.of(root);
    const fs = new RecordingFs(new RealFs(), root);
    await commit(root, fs);
    const linked = fs.operations.findIndex(({ kind }) => kind === 'link');
    const synced = fs.operations.findLastIndex(({ kind }) => kind === 'fsync-directory');
    expect(linked).toBeGreaterThan(0);
    expect(synced).toBeGreaterThan(linked);
    await afterEachCrash(start, fs.operations, async (crashed, done, survival) => {
      const { entries, damaged, strange } = await listManifests(crashed);
      expect({ damaged, strange }, `${done} ${survival}`).toEqual({ damaged: [], strange: [] });
      if (done <= linked) expect(entries).toEqual([]);
      if (survival !== 'durable' && done > linked) expect(entries).toHaveLength(1);
      if (done > synced) expect(entries).toHaveLength(1);
      await expectSwept(crashed);
    });
  });

  it('makes directories durable that another process just made', async () => {
    const root = await newStore(join(temporaryDirectory(), 's'));
    const start = CrashModel.of(root);
    const other = new RecordingFs(new RealFs(), root);
    await other.mkdir(join(root, 'manifests', 'ns'));
    await other.mkdir(join(root, 'manifests', 'ns', 'vm'));
    const fs = new RecordingFs(new RealFs(), root);
    await commit(root, fs);
    for (const operation of [...other.operations, ...fs.operations]) start.apply(operation);
    const crashed = join(temporaryDirectory(), 'crashed');
    start.materialize(crashed, 'durable');
    expect((await listManifests(crashed)).entries).toHaveLength(1);
  });
});

describe('a crash during forget', () => {
  it('leaves the whole backup with its sidecar, or none of it', async () => {
    const root = await newStore(join(temporaryDirectory(), 's'));
    await commit(root);
    const ref = backup(NIGHT, '100', 'ns');
    const session = await Session.begin(place(root), 'maintenance');
    const { digest } = await readManifest(root, ref);
    const sidecar = { manifestDigest: digest, labels: new Map(), notes: '', isProtected: true };
    await writeSidecar(place(root), session, ref, sidecar, 'blake3');
    await session.end();
    const start = CrashModel.of(root);
    const fs = new RecordingFs(new RealFs(), root);
    await forgetManifest(fs, root, ref);
    await afterEachCrash(start, fs.operations, async (crashed, done, survival) => {
      const { entries, damaged } = await listManifests(crashed);
      expect(damaged).toEqual([]);
      if (entries.length > 0) expect((await readSidecar(crashed, ref, digest))?.isProtected).toBe(true);
      if (done === fs.operations.length) expect(entries, survival).toEqual([]);
    });
  });
});

describe('a crash while a sidecar is written', () => {
  it('leaves the old one or the new one, whole', async () => {
    const root = await newStore(join(temporaryDirectory(), 's'));
    await commit(root);
    const ref = backup(NIGHT, '100', 'ns');
    const { digest } = await readManifest(root, ref);
    const write = async (fs: RealFs | RecordingFs, notes: string) => {
      const session = await Session.begin(place(root, fs), 'maintenance');
      const sidecar = { manifestDigest: digest, labels: new Map(), notes, isProtected: true };
      await writeSidecar(place(root, fs), session, ref, sidecar, 'blake3');
      await session.end();
    };
    await write(new RealFs(), 'old');
    const start = CrashModel.of(root);
    const fs = new RecordingFs(new RealFs(), root);
    await write(fs, 'new');
    await afterEachCrash(start, fs.operations, async (crashed, done) => {
      const found = (await readSidecar(crashed, ref, digest))?.notes;
      if (done === 0) expect(found).toBe('old');
      else if (done === fs.operations.length) expect(found).toBe('new');
      else expect(['old', 'new']).toContain(found);
    });
  });
});

describe('a step that fails', () => {
  it('leaves no backup behind a commit that rejected, and a whole one behind one that did not', async () => {
    const root = await newStore(join(temporaryDirectory(), 's'));
    const counted = new FaultFs(new RealFs(), { at: Number.POSITIVE_INFINITY, code: 'EIO' });
    await commit(root, counted);
    await forgetManifest(new RealFs(), root, backup(NIGHT, '100', 'ns'));
    for (let at = 1; at <= counted.seen.length; at++) {
      const fs = new FaultFs(new RealFs(), { at, code: 'ENOSPC', partBytes: 11, lasting: true });
      const error = await commit(root, fs).then(
        () => undefined,
        (failure: unknown) => failure,
      );
      const { entries, damaged } = await listManifests(root);
      expect(damaged).toEqual([]);
      const step = fs.seen[at - 1] ?? '';
      if (error === undefined) expect(entries, step).toHaveLength(1);
      else {
        expect(error).toBeInstanceOf(VmarError);
        expect(entries, step).toEqual([]);
      }
      for (const { ref } of entries) await forgetManifest(new RealFs(), root, ref);
      await expectSwept(root);
    }
  });
});
