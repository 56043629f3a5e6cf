// SPDX-License-Identifier: MIT
// Backups of what NBD servers export, and restores to them, with the real program and real servers.

import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { haveTool } from '../base/scratch.js';
import { nbdkit, qemuNbd } from '../nbd/client/servers.js';
import { Bench } from './bench.js';
import { mixedImage } from './images.js';

describe.skipIf(!haveTool('nbdkit', 'backups of NBD exports'))('nbdkit', () => {
  const bench = new Bench();
  let count = 0;
  const socket = () => bench.path(`s${count++}`);
  beforeAll(async () => {
    mixedImage(bench.path('a.raw'));
    await bench.json(['init', 'store']);
  });

  it.each([
    ['a file', ['file', 'a.raw']],
    ['without holes', ['--filter=noextents', 'file', 'a.raw']],
    ['without structured replies', ['--no-sr', 'file', 'a.raw']],
    ['one connection', ['--filter=multi-conn', 'file', 'a.raw', 'multi-conn-mode=disable']],
    [
      'small requests',
      ['--filter=blocksize-policy', 'file', 'a.raw', 'blocksize-maximum=16k', 'blocksize-error-policy=error'],
    ],
  ])('%s is backed up as it is', async (name, words) => {
    const guest = name.replace(/ /g, '-');
    const { uri } = await nbdkit(socket(), ...words.map((word) => (word === 'a.raw' ? bench.path(word) : word)));
    await bench.json(['backup', guest, '--disk', `d=${uri}`]);
    await bench.json(['restore', guest, '--disk', `d=${bench.path(guest)}`]);
    expect(readFileSync(bench.path(guest)).equals(readFileSync(bench.path('a.raw')))).toBe(true);
    expect(await bench.json(['show', guest])).toMatchObject({ source: 'nbd', consistency: 'crash' });
  });

  it.each([
    ['pattern', ['pattern', '20000000']],
    ['sparse', ['sparse-random', '512M', 'percent=2', 'seed=5']],
  ])('%s: there and back, and nothing read where nothing is', async (guest, words) => {
    const { uri } = await nbdkit(socket(), ...words);
    const { disks } = await bench.json(['backup', guest, '--disk', `d=${uri}`, '--force-share']);
    if (guest === 'sparse') expect(disks[0].read).toBeLessThan(128 << 20);
    const target = await nbdkit(socket(), 'memory', String(disks[0].size));
    const restored = await bench.json(['restore', guest, '--disk', `d=${target.uri}`]);
    expect(restored.disks[0]).toMatchObject({ target: target.uri, size: disks[0].size });
    if (!haveTool('nbdcopy', 'comparing two servers')) return;
    for (const [index, each] of [uri, target.uri].entries()) {
      const copied = spawnSync('nbdcopy', [each, bench.path(`copy${index}`)], { encoding: 'utf8' });
      expect(copied).toMatchObject({ status: 0 });
    }
    expect(spawnSync('cmp', [bench.path('copy0'), bench.path('copy1')]).status).toBe(0);
  });

  it('a target that is too small, not empty, read-only or not there: 1, and not touched', async () => {
    await bench.json(['backup', 'b', '--disk', 'd=a.raw']);
    const size = readFileSync(bench.path('a.raw')).length;
    const error = (uri: string, ...words: string[]) => bench.error(['restore', 'b', '--disk', `d=${uri}`, ...words]);
    const small = await nbdkit(socket(), 'memory', String(size - 1));
    expect(await error(small.uri)).toMatchObject({ exit: 1, code: 'target-too-small', object: small.uri });
    writeFileSync(bench.path('full'), Buffer.alloc(size, 1));
    const full = await nbdkit(socket(), 'file', bench.path('full'));
    expect(await error(full.uri)).toMatchObject({ exit: 1, code: 'target-not-empty' });
    expect(readFileSync(bench.path('full')).equals(Buffer.alloc(size, 1))).toBe(true);
    const readOnly = await nbdkit(socket(), '-r', 'memory', '20M');
    expect(await error(readOnly.uri)).toMatchObject({ exit: 1, code: 'read-only-export' });
    await bench.json(['restore', 'b', '--disk', `d=${full.uri}`, '--overwrite']);
    expect(readFileSync(bench.path('full')).equals(readFileSync(bench.path('a.raw')))).toBe(true);
  });

  it('zeros are written, unless the target is said to be zero', async () => {
    const size = readFileSync(bench.path('a.raw')).length;
    writeFileSync(bench.path('ones'), Buffer.alloc(size, 1));
    const ones = await nbdkit(socket(), 'file', bench.path('ones'));
    await bench.json(['restore', 'b', '--disk', `d=${ones.uri}`, '--overwrite', '--target-is-zero']);
    const lied = readFileSync(bench.path('ones'));
    expect(lied.equals(readFileSync(bench.path('a.raw')))).toBe(false);
    expect(lied.subarray(3 * 65536, 4 * 65536).equals(Buffer.alloc(65536, 1))).toBe(true);
  });

  it('a server that fails, or fills up, while it is written to: 1', async () => {
    const full = await nbdkit(
      socket(),
      '--filter=error',
      'memory',
      '20M',
      'error-pwrite=ENOSPC',
      'error-pwrite-rate=100%',
    );
    expect(await bench.error(['restore', 'b', '--disk', `d=${full.uri}`])).toMatchObject({ exit: 1, code: 'no-space' });
  });

  it('a server that fails while it is read: 1, and no backup', async () => {
    const bad = await nbdkit(socket(), '--filter=error', 'file', bench.path('a.raw'), 'error-pread-rate=100%');
    const error = await bench.error(['backup', 'none', '--disk', `d=${bad.uri}`]);
    expect(error).toMatchObject({ exit: 1, code: 'read-failed', object: bad.uri });
    expect(await bench.error(['list', 'none'])).toMatchObject({ exit: 4 });
  });

  it('an interrupt while the server hangs: 130, at once', async () => {
    const slow = await nbdkit(socket(), '--filter=delay', 'file', bench.path('a.raw'), 'rdelay=60');
    const { child, finished } = bench.start(['backup', 'hang', '--disk', `d=${slow.uri}`]);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    child.kill('SIGINT');
    expect((await finished).status).toBe(130);
  });

  it('a disk of a file and one of a server in one backup', async () => {
    const { uri } = await nbdkit(socket(), 'memory', '1M');
    await bench.json(['backup', 'two', '--disk', 'a=a.raw', '--disk', `b=${uri}`]);
    expect(await bench.json(['show', 'two'])).toMatchObject({ source: 'nbd', consistency: 'crash' });
  });
});

const haveQemu = haveTool('qemu-nbd', 'restores to qemu-nbd') && haveTool('qemu-img', 'restores to qemu-nbd');
describe.skipIf(!haveQemu)('qemu-nbd', () => {
  const bench = new Bench();
  it('takes a restore into a qcow2 image, which stays sparse', async () => {
    mixedImage(bench.path('a.raw'));
    await bench.json(['init', 'store']);
    await bench.json(['backup', '1', '--disk', 'd=a.raw']);
    spawnSync('qemu-img', ['create', '-q', '-f', 'qcow2', bench.path('t.qcow2'), '656896']);
    const { uri } = await qemuNbd(bench.path('s'), '--format=qcow2', '--discard=unmap', bench.path('t.qcow2'));
    await bench.json(['restore', '1', '--disk', `d=${uri}`]);
    const out = spawnSync('qemu-img', ['convert', '-O', 'raw', '-f', 'raw', uri, bench.path('o.raw')], {
      encoding: 'utf8',
    });
    expect(out).toMatchObject({ status: 0 });
    const length = readFileSync(bench.path('a.raw')).length;
    expect(
      readFileSync(bench.path('o.raw'))
        .subarray(0, length)
        .equals(readFileSync(bench.path('a.raw'))),
    ).toBe(true);
  });
});
