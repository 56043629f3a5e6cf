// SPDX-License-Identifier: MIT
// Locks of processes that died and of machines that are gone: gc waits for nobody in silence, and there is a way out.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openDatastore } from '#vmar/src/store/datastore.js';
import { lockGuest } from '#vmar/src/store/locks.js';
import { seededRandom } from '../base/random.js';
import { Bench, type Json } from './bench.js';

describe('a session', () => {
  let bench: Bench;
  let end: () => Promise<void>;
  let session: string;

  /** Packs that nobody needs, and a session that lives, of which its file says so. */
  beforeEach(async () => {
    bench = new Bench();
    await bench.json(['init', 'store']);
    writeFileSync(bench.path('d.raw'), seededRandom(1).bytes(300_000));
    const { backup } = await bench.json(['backup', '100', '--disk', `d=${bench.path('d.raw')}`]);
    const store = await openDatastore(bench.store, { cacheDir: bench.path('cache-2') });
    const living = await store.beginSession('backup');
    session = living.id;
    end = async () => {
      await living.end();
      await store.close();
    };
    await bench.json(['forget', backup]);
  });
  afterEach(() => end());

  const lockFile = (): string => join(bench.store, 'locks', `session-${session}.lock`);

  it('that gc waits for is named, with its host, its process and since when', async () => {
    const { waiting } = await bench.json(['gc']);
    expect(waiting).toMatchObject({ packs: 2, sessions: 1, for: [{ session, doing: 'backup', pid: process.pid }] });
    expect(Date.parse(waiting.for[0].since)).toBeGreaterThan(Date.now() - 120_000);
    const { text } = await bench.run(['gc']);
    expect(text).toMatch(new RegExp(`session ${session}: backup on .+, process ${process.pid}, since `));
    expect(text).not.toContain('--abandon-session');
    expect(await bench.error(['gc', '--abandon-session', session])).toMatchObject({ exit: 5, code: 'session-alive' });
    expect(await bench.error(['gc', '--abandon-session', '0'.repeat(32)])).toMatchObject({ exit: 4 });
  });

  it('of a machine that is gone is abandoned when that is asked for, and fails should it live after all', async () => {
    const holder: Json = JSON.parse(readFileSync(lockFile(), 'utf8'));
    writeFileSync(lockFile(), JSON.stringify({ ...holder, host: 'burnt-down' }));
    const waiting = await bench.run(['gc']);
    expect(waiting.text).toMatch(/backup on burnt-down, process/);
    expect(waiting.text).toContain('vmar gc --abandon-session');
    const document = await bench.json(['gc', '--abandon-session', session]);
    expect(document).toMatchObject({ deleted: { packs: 2 }, waiting: { packs: 0, sessions: 0, for: [] } });
    expect(readdirSync(join(bench.store, 'tmp'))).toEqual([]);
  });

  it('of a file that says nothing is waited for all the same', async () => {
    writeFileSync(lockFile(), '');
    expect((await bench.json(['gc'])).waiting).toMatchObject({ sessions: 1, for: [{ session }] });
    expect((await bench.run(['gc'])).text).toContain(`session ${session}: unknown`);
    expect(await bench.error(['gc', '--abandon-session', session])).toMatchObject({ exit: 5 });
  });

  it('of a process that was killed holds nobody up', async () => {
    await end();
    const code = `import { openDatastore } from '#vmar/src/store/datastore.js';
      const store = await openDatastore(${JSON.stringify(bench.store)}, { cacheDir: ${JSON.stringify(bench.path('c'))} });
      await store.beginSession('backup'); process.kill(process.pid, 'SIGKILL');`;
    const { spawnSync } = await import('node:child_process');
    spawnSync(process.execPath, ['--input-type=module', '-e', code], { cwd: process.cwd() });
    expect(readdirSync(join(bench.store, 'locks')).filter((name) => name.startsWith('session-'))).toHaveLength(1);
    expect(await bench.json(['gc'])).toMatchObject({ deleted: { packs: 2 }, waiting: { sessions: 0 } });
  });
});

describe('the lock of a guest', () => {
  it('says who holds it', async () => {
    const bench = new Bench();
    await bench.json(['init', 'store']);
    writeFileSync(bench.path('d.raw'), 'x'.repeat(1000));
    const store = await openDatastore(bench.store, { cacheDir: bench.path('cache-2') });
    const lock = await lockGuest(store.fs, store.root, { namespace: '', guestType: 'vm', guestId: '100' });
    const error = await bench.error(['backup', '100', '--disk', `d=${bench.path('d.raw')}`]);
    expect(error).toMatchObject({ exit: 5, code: 'guest-busy' });
    expect(error.found).toContain(`process ${process.pid}, since`);
    await lock.release();
    await store.close();
  });
});
