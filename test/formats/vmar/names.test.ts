// SPDX-License-Identifier: MIT

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatTime, isConfigName, isName, isNamespace, isTime, parseTime } from '#vmar/formats/vmar/names.js';
import { UsageError } from '#vmar/src/base/errors.js';

describe('names of guests and disks', () => {
  it.each(['100', 'drive-scsi0', 'a', 'A.b_c-', 'x'.repeat(63)])('takes %s', (text) => {
    expect(isName(text)).toBe(true);
  });

  it.each(['', '.', '..', '-a', '_a', 'a/b', 'a b', 'ä', 'a\n', 'x'.repeat(64), 'a\0'])('refuses %j', (text) => {
    expect(isName(text)).toBe(false);
  });
});

describe('namespaces', () => {
  it.each(['a', 'north/rack-2', 'a/b/c/d/e/f/g/h', 'vm2', 'v/m'])('takes %s', (text) => {
    expect(isNamespace(text)).toBe(true);
  });

  it.each(['', 'vm', 'a/vm', 'vm/a', '/a', 'a/', 'a//b', 'a/../b', 'a/b/c/d/e/f/g/h/i'])('refuses %j', (text) => {
    expect(isNamespace(text)).toBe(false);
  });
});

describe('names of configuration files', () => {
  it.each(['100.conf', 'ø', '...', ' ', 'a'.repeat(255), 'é'.repeat(127), '\u{1f600}'])('takes %j', (text) => {
    expect(isConfigName(text)).toBe(true);
  });

  const refused = ['', '.', '..', 'a/b', '/', 'a\0', 'a\n', '\x7f', '\x85', 'a'.repeat(256), 'é'.repeat(128), '\ud800'];
  it.each(refused)('refuses %j', (text) => {
    expect(isConfigName(text)).toBe(false);
  });
});

describe('times', () => {
  it.each([
    [0, '1970-01-01T00:00:00Z'],
    [1795226400, '2026-11-21T02:00:00Z'],
    [951782400, '2000-02-29T00:00:00Z'],
    [253402300799, '9999-12-31T23:59:59Z'],
  ])('%i is %s', (seconds, text) => {
    expect(formatTime(seconds)).toBe(text);
    expect(parseTime(text)).toBe(seconds);
  });

  it('every time comes back', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 253402300799 }), (seconds) => parseTime(formatTime(seconds)) === seconds),
    );
  });

  it.each([
    '2026-11-21T02:00:00',
    '2026-11-21T02:00:00.000Z',
    '2026-11-21 02:00:00Z',
    '2026-02-30T00:00:00Z',
    '2026-13-01T00:00:00Z',
    '2026-11-21T24:00:00Z',
    '2026-11-21T02:00:60Z',
    '1969-12-31T23:59:59Z',
    '+10000-01-01T00:00:00Z',
    '2026-11-21T02:00:00Z\n',
    'latest',
    '',
  ])('%j is none', (text) => {
    expect(parseTime(text)).toBeUndefined();
  });

  it.each([-1, 0.5, Number.NaN, 253402300800, Number.POSITIVE_INFINITY])('%d has no form', (seconds) => {
    expect(isTime(seconds)).toBe(false);
    expect(() => formatTime(seconds)).toThrow(UsageError);
  });
});
