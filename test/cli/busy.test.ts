// SPDX-License-Identifier: MIT
// Guests and images that somebody else holds, and signals.

import { closeSync, existsSync, openSync, readdirSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { flock, ofdTryLock } from '#vmar/src/base/syscalls.js';
import { guestLockPath } from '#vmar/src/store/layout.js';
import { Bench } from './bench.js';
import { CLUSTER, makeImage, mixedImage, noise, untilLocked } from './images.js';

const bench = new Bench();

beforeAll(async () => {
  await bench.json(['init', bench.store]);
  mixedImage(bench.path('a.raw'));
  makeImage(bench.path('slow.raw'), 80 * CLUSTER, [{ at: 0, bytes: noise(80) }]);
  await bench.json(['backup', '100', '--disk', 'd=a.raw']);
});

/** Does something while this process holds the guest. */
async function holding(guestId: string, action: (release: () => void) => Promise<void>): Promise<void> {
  const fd = openSync(guestLockPath(bench.store, { namespace: '', guestType: 'vm', guestId }), 'a');
  let isOpen = true;
  const release = (): void => {
    if (isOpen) closeSync(fd);
    isOpen = false;
  };
  expect(flock(fd, 'exclusive', { wait: false })).toBe(true);
  try {
    await action(release);
  } finally {
    release();
  }
}

/** By then a command that waits for a lock does so; if not, less is tested, and nothing fails. */
const WAITING_MILLIS = 1500;

const sessions = (): string[] => readdirSync(bench.path('store', 'locks')).filter((name) => name.startsWith('session'));

describe('a guest that somebody works on', () => {
  it('is busy, at once, for those who change it', async () => {
    await holding('100', async () => {
      const backup = await bench.error(['backup', '100', '--disk', 'd=a.raw']);
      expect(backup).toMatchObject({ exit: 5, code: 'guest-busy', object: 'vm/100' });
      expect(await bench.error(['backup', '100', '--disk', 'd=a.raw', '--wait=0'])).toMatchObject({ exit: 5 });
      expect(await bench.error(['backup', '100', '--disk', 'd=a.raw', '--wait=1'])).toMatchObject({ exit: 5 });
      expect(await bench.error(['forget', '100'])).toMatchObject({ exit: 5 });
    });
  });

  it('can be read, and others be backed up', async () => {
    await holding('100', async () => {
      expect((await bench.json(['list'])).backups).not.toEqual([]);
      expect(await bench.json(['verify', '100'])).toMatchObject({ ok: true });
      await bench.json(['backup', '101', '--disk', 'd=a.raw']);
    });
  });

  it.each([['--wait'], ['--wait=600']])('is waited for with %s', async (flag) => {
    await holding('100', async (release) => {
      const { finished } = bench.start(['--json', 'backup', flag, '100', '--disk', 'd=a.raw']);
      await delay(WAITING_MILLIS);
      release();
      const { status, json } = await finished;
      expect(status).toBe(0);
      expect(json()).toMatchObject({ disks: [{ name: 'd' }] });
    });
  });

  it('is not waited for any more after a signal', async () => {
    await holding('100', async () => {
      const { child, finished } = bench.start(['--json', 'backup', '--wait', '100', '--disk', 'd=a.raw']);
      await delay(WAITING_MILLIS);
      child.kill('SIGTERM');
      const { status, json } = await finished;
      expect(status).toBe(130);
      expect(json().error).toMatchObject({ code: 'interrupted', exit: 130 });
      expect(sessions()).toEqual([]);
    });
  });
});

describe('two backups at once', () => {
  it('of different guests both succeed', async () => {
    const words = (guest: string) => ['backup', guest, '--disk', 'd=slow.raw', '--speed', '10MiB'];
    const both = await Promise.all([bench.json(words('left')), bench.json(words('right'))]);
    expect(both).toMatchObject([{ disks: [{ size: 80 * CLUSTER }] }, { disks: [{ size: 80 * CLUSTER }] }]);
    expect(await bench.json(['verify'])).toMatchObject({ ok: true });
  });
});

describe('an image that QEMU has locked', () => {
  it('is busy, unless --force-share, which is recorded', async () => {
    const fd = openSync(bench.path('a.raw'), 'r+');
    // "I write to it."
    expect(ofdTryLock(fd, 'read', 101, 1)).toBe(true);
    try {
      const error = await bench.error(['backup', 'qemu', '--disk', 'd=a.raw']);
      expect(error).toMatchObject({ exit: 5, code: 'image-locked', object: 'a.raw' });
      await bench.json(['backup', 'qemu', '--disk', 'd=a.raw', '--force-share']);
      const document = await bench.json(['show', 'qemu']);
      expect(document).toMatchObject({ consistency: 'crash', disks: [{ forceShared: true }] });
    } finally {
      closeSync(fd);
    }
  });
});

describe.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('%s in the middle of a backup', (signal) => {
  it('leaves nothing of it, and exits with 130', async () => {
    const words = ['backup', 'cancelled', '--disk', 'd=slow.raw', '--speed', '64KiB'];
    const running = bench.start(words);
    await untilLocked(bench.path('slow.raw'), running);
    running.child.kill(signal);
    const { status, stderr } = await running.finished;
    expect(status).toBe(130);
    expect(stderr).toContain('interrupted');
    expect(await bench.error(['list', 'cancelled'])).toMatchObject({ exit: 4 });
    expect(sessions()).toEqual([]);
    expect(readdirSync(bench.path('store', 'tmp'))).toEqual([]);
    expect(await bench.json(['verify'])).toMatchObject({ ok: true });
  });
});

describe('a signal in the middle of an archive', () => {
  it('leaves no file', async () => {
    const words = ['backup', '100', '--disk', 'd=slow.raw', '--speed', '64KiB', '--output', 'half.vmar'];
    const running = bench.start(words);
    await untilLocked(bench.path('slow.raw'), running);
    running.child.kill('SIGINT');
    expect((await running.finished).status).toBe(130);
    expect(existsSync(bench.path('half.vmar'))).toBe(false);
    expect(readdirSync(bench.directory).filter((name) => name.includes('half'))).toEqual([]);
  });
});
