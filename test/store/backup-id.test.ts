// SPDX-License-Identifier: MIT

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { NotFoundError, UsageError } from '#vmar/src/base/errors.js';
import {
  compareBackups,
  formatBackupId,
  formatGuest,
  parseBackupId,
  parseGuest,
  requireGuest,
  resolveBackup,
  resolveGuest,
} from '#vmar/src/store/backup-id.js';
import { backup, guest, NIGHT } from './samples.js';

const name = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/);
const namespace = fc
  .array(
    name.filter((part) => part !== 'vm'),
    { maxLength: 8 },
  )
  .map((parts) => parts.join('/'));

describe('backup ids', () => {
  it('are read as they are written', () => {
    fc.assert(
      fc.property(namespace, name, fc.integer({ min: 0, max: 253402300799 }), (ns, id, time) => {
        const ref = backup(time, id, ns);
        expect(parseBackupId(formatBackupId(ref))).toEqual(ref);
        expect(parseGuest(formatGuest(ref))).toEqual(guest(id, ns));
      }),
    );
  });

  it('look like this', () => {
    expect(formatBackupId(backup())).toBe('vm/100/2026-11-21T02:00:00Z');
    expect(formatBackupId(backup(NIGHT, 'web', 'site/a'))).toBe('site/a/vm/web/2026-11-21T02:00:00Z');
  });

  it('are refused in any other shape', () => {
    const bad = ['', '/', '100/', 'vm/', 'vm//x', 'vm/100/', 'vm/../x', 'a/100', 'a/b', '../vm/1', 'vm/a b', 'a//vm/1'];
    for (const text of bad) expect(parseGuest(text), text).toBeUndefined();
    const badIds = ['100/2026-11-21T02:00:00Z', 'vm/100', 'vm/100/2026-11-21', 'vm/100/2026-02-30T02:00:00Z', 'latest'];
    for (const text of badIds) expect(parseBackupId(text), text).toBeUndefined();
    expect(() => requireGuest('a b')).toThrow(UsageError);
  });

  it('take a guest that is called vm', () => {
    expect(parseGuest('vm')).toEqual(guest('vm'));
    expect(parseGuest('vm/vm')).toEqual(guest('vm'));
    expect(parseGuest('a/vm/vm')).toEqual(guest('vm', 'a'));
  });

  it('are ordered by namespace, guest number and time', () => {
    const order = [backup(5, '9'), backup(6, '9'), backup(1, '10'), backup(1, 'a'), backup(0, '1', 'ns')];
    for (const [i, a] of order.entries()) {
      for (const [j, b] of order.entries()) expect(Math.sign(compareBackups(a, b))).toBe(Math.sign(i - j));
    }
  });
});

describe('resolveBackup', () => {
  const all = [
    backup(NIGHT, '100'),
    backup(NIGHT + 86400, '100'),
    backup(NIGHT, '10'),
    backup(NIGHT, '200', 'a'),
    backup(NIGHT, '200', 'b'),
    backup(NIGHT, '300', 'b'),
  ];
  const found = (text: string) => formatBackupId(resolveBackup(text, all));

  it('takes full ids', () => {
    expect(found('vm/100/2026-11-21T02:00:00Z')).toBe('vm/100/2026-11-21T02:00:00Z');
    expect(found('a/vm/200/2026-11-21T02:00:00Z')).toBe('a/vm/200/2026-11-21T02:00:00Z');
  });

  it('takes a guest for its newest', () => {
    expect(found('100')).toBe('vm/100/2026-11-22T02:00:00Z');
    expect(found('100/latest')).toBe('vm/100/2026-11-22T02:00:00Z');
    expect(found('vm/100')).toBe('vm/100/2026-11-22T02:00:00Z');
    expect(found('vm/100/latest')).toBe('vm/100/2026-11-22T02:00:00Z');
    expect(found('10')).toBe('vm/10/2026-11-21T02:00:00Z');
    expect(found('300')).toBe('b/vm/300/2026-11-21T02:00:00Z');
    expect(found('a/vm/200')).toBe('a/vm/200/2026-11-21T02:00:00Z');
  });

  it('takes the beginning of one id', () => {
    expect(found('vm/100/2026-11-22')).toBe('vm/100/2026-11-22T02:00:00Z');
    expect(found('100/2026-11-21')).toBe('vm/100/2026-11-21T02:00:00Z');
    expect(found('a/')).toBe('a/vm/200/2026-11-21T02:00:00Z');
  });

  it('refuses what fits several, and names them', () => {
    for (const text of ['vm/100/2026', '100/2026', '200', '200/latest', 'b/', 'vm/1']) {
      expect(() => resolveBackup(text, all), text).toThrow(UsageError);
    }
    expect(() => resolveBackup('200', all)).toThrow(
      expect.objectContaining({ code: 'ambiguous', found: 'a/vm/200, b/vm/200', exitStatus: 2 }),
    );
  });

  it('never takes a part of a guest id for a guest', () => {
    for (const text of ['1', '20', '30', 'x', '', 'latest', '/latest', '100/2027', 'vm/1000']) {
      expect(() => resolveBackup(text, all), text).toThrow(NotFoundError);
    }
  });
});

describe('resolveGuest', () => {
  const guests = [guest('100'), guest('200', 'a'), guest('200', 'b')];

  it('takes the id alone where it is unique, and the full name always', () => {
    expect(resolveGuest('100', guests)).toEqual(guest('100'));
    expect(resolveGuest('b/vm/200', guests)).toEqual(guest('200', 'b'));
    expect(() => resolveGuest('200', guests)).toThrow(UsageError);
    expect(() => resolveGuest('300', guests)).toThrow(
      expect.objectContaining({ code: 'no-such-guest', exitStatus: 4 }),
    );
  });
});
