// SPDX-License-Identifier: MIT
// What words mean, without a process around it.

import { describe, expect, it } from 'vitest';
import { UsageError } from '#vmar/src/base/errors.js';
import { readEnvironment } from '#vmar/src/cli/environment.js';
import { humanDuration, humanRate, humanSize } from '#vmar/src/cli/human.js';
import { isArchiveName } from '#vmar/src/cli/parse-backup-name.js';
import { parseCount, parseWait } from '#vmar/src/cli/parse-count.js';
import { parseDisks } from '#vmar/src/cli/parse-disk.js';
import { parseLabels } from '#vmar/src/cli/parse-labels.js';
import { parseSize } from '#vmar/src/cli/parse-size.js';
import { printable } from '#vmar/src/cli/printable.js';
import { normalise } from '#vmar/src/cli/program.js';

describe('sizes', () => {
  it.each([
    ['0', 0],
    ['4096', 4096],
    ['64KiB', 65536],
    ['64 kib', 65536],
    ['1.5GiB', 1610612736],
    ['2TiB', 2 ** 41],
    ['7B', 7],
  ])('%s', (text, bytes) => expect(parseSize(text, '--speed')).toBe(bytes));

  it.each(['', '-1', 'KiB', '1K', '1kB', '1.0000001KiB', '1e3', '0x10', '99999999TiB', '1 2'])('refuses "%s"', (text) =>
    expect(() => parseSize(text, '--speed')).toThrow(UsageError),
  );
});

describe('numbers', () => {
  it('keeps the bounds', () => {
    expect(parseCount('1', '--level', 1, 22)).toBe(1);
    expect(parseCount('22', '--level', 1, 22)).toBe(22);
    for (const text of ['0', '23', '', '1.5', '-1', 'x', '1e1']) {
      expect(() => parseCount(text, '--level', 1, 22)).toThrow(UsageError);
    }
  });

  it('--wait without a number is for ever, and eats no argument', () => {
    expect(parseWait(undefined)).toBe(0);
    expect(parseWait('')).toBe(Number.POSITIVE_INFINITY);
    expect(parseWait('30')).toBe(30);
    expect(() => parseWait('soon')).toThrow(UsageError);
    expect(normalise(['backup', '--wait', '100'])).toEqual(['backup', '--wait=', '100']);
    expect(normalise(['--wait=5', '--', '--wait'])).toEqual(['--wait=5', '--', '--wait']);
  });
});

describe('disks', () => {
  it('cuts at the first "="', () => {
    expect(parseDisks(['scsi0=/a=b.raw', 'x.1_2-3=y'], 'NAME=IMAGE')).toEqual([
      { name: 'scsi0', place: '/a=b.raw' },
      { name: 'x.1_2-3', place: 'y' },
    ]);
  });

  it.each(['..=a', 'a/b=c', 'a b=c', 'é=c', '-a=c', '.a=c', `${'a'.repeat(64)}=c`, 'a', '=c', 'a=', 'a\nb=c'])(
    'refuses %j',
    (text) => expect(() => parseDisks([text], 'NAME=IMAGE')).toThrow(UsageError),
  );

  it('refuses a name that comes twice', () => {
    expect(() => parseDisks(['a=1', 'b=1', 'a=2'], 'NAME=IMAGE')).toThrow(/twice/);
    expect(parseDisks(['a=1', 'A=1'], 'NAME=IMAGE')).toHaveLength(2);
  });

  it('takes 254 and no more', () => {
    const disks = Array.from({ length: 255 }, (_, index) => `d${index}=x`);
    expect(parseDisks(disks.slice(1), 'NAME=IMAGE')).toHaveLength(254);
    expect(() => parseDisks(disks, 'NAME=IMAGE')).toThrow(UsageError);
  });

  it('takes NBD URIs, and looks at them', () => {
    for (const place of ['nbd://host/x', 'nbd+unix:///x?socket=/y']) {
      expect(parseDisks([`a=${place}`], 'NAME=IMAGE')).toEqual([{ name: 'a', place }]);
    }
    for (const place of ['nbd://host:x/', 'nbd+unix:///x', 'nbds://h/?psk=x']) {
      expect(() => parseDisks([`a=${place}`], 'NAME=IMAGE')).toThrow(UsageError);
    }
  });
});

describe('labels', () => {
  it('takes text', () => {
    expect(parseLabels(['site=Köln = Süd', 'a/b=1'])).toEqual(
      new Map([
        ['site', 'Köln = Süd'],
        ['a/b', '1'],
      ]),
    );
  });

  it.each(['x', '=x', 'a b=x', 'ä=x', `${'k'.repeat(64)}=x`, 'a=\u0007', `a=${'x'.repeat(1025)}`])(
    'refuses %j',
    (text) => expect(() => parseLabels([text])).toThrow(UsageError),
  );

  it('refuses a key twice, and more than 64', () => {
    expect(() => parseLabels(['a=1', 'a=2'])).toThrow(UsageError);
    expect(() => parseLabels(Array.from({ length: 65 }, (_, index) => `k${index}=1`))).toThrow(UsageError);
  });
});

describe('names of backups', () => {
  it.each(['x.vmar', '/tmp/x', './x', '../x'])('%s is an archive', (text) => expect(isArchiveName(text)).toBe(true));
  it.each(['100', '100/latest', 'vm/100/2026', 'a.vmarx', '.x'])('%s is in the datastore', (text) =>
    expect(isArchiveName(text)).toBe(false),
  );
  it.each(['x.vma', '/x/y.vma.zst', './x.vma.gz', 'x.vma.lzo', './x.tar', '/x.tar.zst'])(
    '%s is to be imported',
    (text) => expect(() => isArchiveName(text)).toThrow(/front to back/),
  );
});

describe('the environment', () => {
  it('finds a place for caches', () => {
    const isRoot = process.getuid?.() === 0;
    expect(readEnvironment({ VMAR_CACHE_DIR: '/c', HOME: '/h' }).cacheDirectory).toBe('/c');
    expect(readEnvironment({ XDG_CACHE_HOME: '/x', HOME: '/h' }).cacheDirectory).toBe(
      isRoot ? '/var/cache/vmar' : '/x/vmar',
    );
    expect(readEnvironment({ XDG_CACHE_HOME: 'x', HOME: '/h' }).cacheDirectory).toBe(
      isRoot ? '/var/cache/vmar' : '/h/.cache/vmar',
    );
    expect(readEnvironment({ VMAR_DATASTORE: '' }).datastoreDirectory).toBeUndefined();
  });
});

describe('numbers for people', () => {
  it('are short', () => {
    expect(humanSize(0)).toBe('0 B');
    expect(humanSize(1536)).toBe('1.5 KiB');
    expect(humanRate(1 << 20, 2)).toBe('512 KiB/s');
    expect(humanRate(1, 0)).toBe('-');
    expect([0.04, 9.94, 10, 59.4, 60, 3599, 3600, 7261].map(humanDuration)).toEqual([
      '0.0 s',
      '9.9 s',
      '10 s',
      '59 s',
      '1 min 0 s',
      '59 min 59 s',
      '1 h 00 min',
      '2 h 01 min',
    ]);
  });
});

describe('what is printed', () => {
  it('cannot move the cursor or fake a line', () => {
    expect(printable('a\u001b[2Jb\nc\u202ed')).toBe('a\\x1b[2Jb\\x0ac\\u202ed');
    expect(printable('Köln 東京')).toBe('Köln 東京');
  });
});
