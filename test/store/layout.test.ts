// SPDX-License-Identifier: MIT

import { basename } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatGuest } from '#vmar/src/store/backup-id.js';
import {
  guestLockPath,
  manifestPath,
  packPath,
  parseGuestFile,
  parsePackName,
  parseSessionLock,
  sessionLockPath,
  sidecarPath,
} from '#vmar/src/store/layout.js';
import { backup, guest, NIGHT } from './samples.js';

describe('layout', () => {
  it('puts things where the format says', () => {
    const id = '0123456789abcdef0123456789abcdef';
    expect(packPath('/s', id)).toBe(`/s/packs/01/${id}.vmar`);
    expect(manifestPath('/s', backup())).toBe('/s/manifests/vm/100/2026-11-21T02:00:00Z.manifest');
    expect(sidecarPath('/s', backup(NIGHT, 'w', 'a/b'))).toBe('/s/manifests/a/b/vm/w/2026-11-21T02:00:00Z.sidecar');
    expect(sessionLockPath('/s', id)).toBe(`/s/locks/session-${id}.lock`);
    expect(guestLockPath('/s', guest('100', 'a/b'))).toBe('/s/locks/guest-a+b+vm+100.lock');
  });

  it('knows its own names and no others', () => {
    const id = '0123456789abcdef0123456789abcdef';
    expect(parsePackName('01', `${id}.vmar`)).toBe(id);
    for (const name of [`${id}`, `${id}.vmar.tmp`, `${id.toUpperCase()}.vmar`, 'x.vmar', '']) {
      expect(parsePackName('01', name), name).toBeUndefined();
    }
    expect(parsePackName('02', `${id}.vmar`)).toBeUndefined();
    expect(parseGuestFile('2026-11-21T02:00:00Z.manifest')).toEqual({ kind: 'manifest', timeSeconds: NIGHT });
    expect(parseGuestFile('2026-11-21T02:00:00Z.sidecar')).toEqual({ kind: 'sidecar', timeSeconds: NIGHT });
    for (const name of ['2026-11-21T02:00:00Z', '2026-11-21.manifest', '2026-11-21T02:00:00Z.manifest~', 'manifest']) {
      expect(parseGuestFile(name), name).toBeUndefined();
    }
    expect(parseSessionLock(`session-${id}.lock`)).toBe(id);
    expect(parseSessionLock('guest-vm+100.lock')).toBeUndefined();
  });

  it('gives no two guests one lock, and every lock a name that file systems take', () => {
    const name = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/);
    const guests = fc.record({
      guestType: fc.constant('vm' as const),
      guestId: name,
      namespace: fc.array(name, { maxLength: 8 }).map((parts) => parts.filter((part) => part !== 'vm').join('/')),
    });
    fc.assert(
      fc.property(guests, guests, (a, b) => {
        const [first, second] = [guestLockPath('/s', a), guestLockPath('/s', b)];
        expect(first === second).toBe(formatGuest(a) === formatGuest(b));
        expect(Buffer.byteLength(basename(first))).toBeLessThanOrEqual(255);
      }),
    );
    const long = 'n'.repeat(63);
    const deep = Array.from({ length: 8 }, () => long).join('/');
    expect(guestLockPath('/s', guest('a', deep))).not.toBe(guestLockPath('/s', guest('b', deep)));
    expect(basename(guestLockPath('/s', guest('a', deep)))).toMatch(/^guest-=[0-9a-f]{64}\.lock$/);
  });

  it('tells apart what only looks alike', () => {
    expect(guestLockPath('/s', guest('c', 'a-vm-b'))).not.toBe(guestLockPath('/s', guest('b-vm-c', 'a')));
  });
});
