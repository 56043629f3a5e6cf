// SPDX-License-Identifier: MIT

import { existsSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ManualClock } from '#vmar/src/base/clock.js';
import { InterruptedError } from '#vmar/src/base/errors.js';
import { guestLockPath } from '#vmar/src/store/layout.js';
import { lockGuest, tryLock, tryLockExisting, waitLock } from '#vmar/src/store/locks.js';
import { RealFs } from '#vmar/src/store/real-fs.js';
import { Child } from './child.js';
import { guest, newStore } from './samples.js';
import { temporaryDirectory } from './temporary-directory.js';

const fs = new RealFs();

describe('tryLock', () => {
  it('neither follows a link, nor tries for ever to make the file that it is to lead to', async () => {
    const [target, link] = ['target', 'link'].map((name) => join(temporaryDirectory(), name)) as [string, string];
    symlinkSync(target, link);
    await expect(tryLock(fs, link, 'exclusive', 'gc')).rejects.toMatchObject({ code: 'is-a-link', object: link });
    writeFileSync(target, 'kept');
    await expect(tryLock(fs, link, 'exclusive', 'gc')).rejects.toMatchObject({ code: 'is-a-link' });
    expect(readFileSync(target, 'utf8')).toBe('kept');
  });

  it('excludes as its mode says', async () => {
    const path = join(temporaryDirectory(), 'l');
    const first = await tryLock(fs, path, 'shared');
    const second = await tryLock(fs, path, 'shared');
    expect(first).toBeDefined();
    expect(second).toBeDefined();
    expect(await tryLock(fs, path, 'exclusive')).toBeUndefined();
    await first!.release();
    expect(await tryLock(fs, path, 'exclusive')).toBeUndefined();
    await second!.release();
    const alone = await tryLock(fs, path, 'exclusive');
    expect(alone).toBeDefined();
    expect(await tryLock(fs, path, 'shared')).toBeUndefined();
    await alone!.release();
    await alone!.release();
    expect(await tryLock(fs, path, 'shared')).toBeDefined();
  });

  it('makes an empty file of mode 0600, once', async () => {
    const path = join(temporaryDirectory(), 'l');
    expect(await tryLockExisting(path, 'exclusive')).toBeUndefined();
    expect(existsSync(path)).toBe(false);
    await (await tryLock(fs, path, 'exclusive'))!.release();
    await (await tryLock(fs, path, 'exclusive'))!.release();
    expect(statSync(path)).toMatchObject({ size: 0, mode: 0o100600 });
    expect(await tryLockExisting(path, 'exclusive')).toBeDefined();
  });

  it('holds the file that has the name, not one that was removed', async () => {
    const path = join(temporaryDirectory(), 'l');
    const old = await tryLock(fs, path, 'exclusive');
    rmSync(path);
    const current = await tryLock(fs, path, 'exclusive');
    expect(current).toBeDefined();
    await old!.release();
    expect(await tryLock(fs, path, 'exclusive')).toBeUndefined();
  });
});

describe('waitLock', () => {
  it('asks every 100 ms until it has the lock', async () => {
    const path = join(temporaryDirectory(), 'l');
    const clock = new ManualClock();
    const held = await tryLock(fs, path, 'exclusive');
    const waiting = waitLock(fs, path, 'exclusive', { waitSeconds: 10, clock });
    while (clock.sleeping === 0) await new Promise((resolve) => setImmediate(resolve));
    await held!.release();
    clock.advance(100);
    expect(await waiting).toBeDefined();
  });

  it('gives up when the time is over, at once without a time', async () => {
    const path = join(temporaryDirectory(), 'l');
    const clock = new ManualClock();
    await tryLock(fs, path, 'exclusive');
    expect(await waitLock(fs, path, 'exclusive', { clock })).toBeUndefined();
    const waiting = waitLock(fs, path, 'exclusive', { waitSeconds: 1, clock });
    let rounds = 0;
    const pump = setInterval(() => {
      if (clock.sleeping > 0) {
        rounds++;
        clock.advanceToNext();
      }
    }, 1);
    expect(await waiting).toBeUndefined();
    clearInterval(pump);
    expect(rounds).toBe(10);
  });

  it('ends when it is interrupted', async () => {
    const path = join(temporaryDirectory(), 'l');
    const abort = new AbortController();
    await tryLock(fs, path, 'exclusive');
    const waiting = waitLock(fs, path, 'exclusive', { waitSeconds: Number.POSITIVE_INFINITY, signal: abort.signal });
    setImmediate(() => abort.abort());
    await expect(waiting).rejects.toBeInstanceOf(InterruptedError);
  });
});

describe('lockGuest', () => {
  const holder = (root: string, guestId: string) => `
    import { lockGuest } from '#vmar/src/store/locks.js';
    import { RealFs } from '#vmar/src/store/real-fs.js';
    const guest = { namespace: '', guestType: 'vm', guestId: ${JSON.stringify(guestId)} };
    const lock = await lockGuest(new RealFs(), ${JSON.stringify(root)}, guest);
    console.log('held');
    process.stdin.once('data', async () => { await lock.release(); console.log('released'); });
  `;

  it('excludes another process from the same guest only, and says what to do', async () => {
    const root = await newStore(join(temporaryDirectory(), 's'));
    const other = Child.start(holder(root, '100'));
    expect(await other.line()).toBe('held');
    await expect(lockGuest(fs, root, guest('100'))).rejects.toMatchObject({
      code: 'guest-busy',
      exitStatus: 5,
      object: 'vm/100',
      found: expect.stringMatching(/^work on a guest on .+, process \d+, since \d{4}-/),
      advice: expect.stringContaining('--wait'),
    });
    await (await lockGuest(fs, root, guest('101'))).release();
    await (await lockGuest(fs, root, guest('100', 'ns'))).release();
    other.say('release');
    expect(await other.line()).toBe('released');
    await (await lockGuest(fs, root, guest('100'))).release();
  });

  it('is free once its process was killed', async () => {
    const root = await newStore(join(temporaryDirectory(), 's'));
    const other = Child.start(holder(root, '100'));
    expect(await other.line()).toBe('held');
    const waiting = lockGuest(fs, root, guest('100'), { waitSeconds: 30 });
    await other.kill();
    await (await waiting).release();
    expect(existsSync(guestLockPath(root, guest('100')))).toBe(true);
  });

  it('is held by one of many at a time', async () => {
    const root = await newStore(join(temporaryDirectory(), 's'));
    const counter = join(root, 'tmp', 'counter');
    const source = `
      import { readFileSync, writeFileSync } from 'node:fs';
      import { lockGuest } from '#vmar/src/store/locks.js';
      import { RealFs } from '#vmar/src/store/real-fs.js';
      const guest = { namespace: '', guestType: 'vm', guestId: '100' };
      for (let i = 0; i < 20; i++) {
        const lock = await lockGuest(new RealFs(), ${JSON.stringify(root)}, guest, { waitSeconds: 60 });
        let n = 0;
        try { n = Number(readFileSync(${JSON.stringify(counter)}, 'utf8')); } catch {}
        await new Promise((resolve) => setImmediate(resolve));
        writeFileSync(${JSON.stringify(counter)}, String(n + 1));
        await lock.release();
      }
      console.log(readFileSync(${JSON.stringify(counter)}, 'utf8'));
    `;
    const children = [1, 2, 3].map(() => Child.start(source));
    const counts = await Promise.all(children.map(async (child) => Number(await child.line())));
    expect(Math.max(...counts)).toBe(60);
  });
});
