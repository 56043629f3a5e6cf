// SPDX-License-Identifier: MIT
// Proves: files given with --blob are kept to the byte, told as blobs, restored under their own names, and go along into
// archives and back.

import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { Bench, type Json } from './bench.js';
import { mixedImage } from './images.js';

describe('blobs', () => {
  const bench = new Bench();
  const vars = randomBytes(540_672);
  const tpm = randomBytes(5432);
  let backup: string;

  beforeAll(async () => {
    mixedImage(bench.path('a.raw'));
    writeFileSync(bench.path('OVMF_VARS.fd'), vars);
    mkdirSync(bench.path('tpm'));
    writeFileSync(bench.path('tpm', 'tpm2-00.permall'), tpm);
    writeFileSync(bench.path('empty'), '');
    await bench.json(['init', 'store']);
    const blobs = ['--blob', 'OVMF_VARS.fd', '--blob', 'tpm-state=tpm/tpm2-00.permall', '--blob', 'empty'];
    ({ backup } = await bench.json(['backup', '100', '--disk', 'scsi0=a.raw', ...blobs]));
  });

  async function expectRestored(name: string, ...words: string[]): Promise<void> {
    rmSync(bench.path('out'), { recursive: true, force: true });
    await bench.json(['restore', name, '--to', 'out', ...words]);
    expect(readdirSync(bench.path('out')).sort()).toEqual(['OVMF_VARS.fd', 'empty', 'scsi0.raw', 'tpm-state']);
    expect(readFileSync(bench.path('out', 'OVMF_VARS.fd')).equals(vars)).toBe(true);
    expect(readFileSync(bench.path('out', 'tpm-state')).equals(tpm)).toBe(true);
    expect(readFileSync(bench.path('out', 'empty')).length).toBe(0);
    expect(readFileSync(bench.path('out', 'scsi0.raw')).equals(readFileSync(bench.path('a.raw')))).toBe(true);
  }

  const kinds = (document: Json) => document.disks.map(({ name, kind, size }: Json) => [name, kind, size]);
  const expected = () => [
    ['scsi0', 'disk', readFileSync(bench.path('a.raw')).length],
    ['OVMF_VARS.fd', 'blob', vars.length],
    ['tpm-state', 'blob', tpm.length],
    ['empty', 'blob', 0],
  ];

  it('are shown, verified and restored as what they were', async () => {
    expect(kinds(await bench.json(['show', backup]))).toEqual(expected());
    expect((await bench.run(['show', backup])).text).toMatch(/OVMF_VARS\.fd +blob +528 KiB/);
    expect(await bench.json(['verify'])).toMatchObject({ ok: true });
    await expectRestored(backup);
  });

  it('are restored one by one', async () => {
    await bench.json(['restore', backup, '--disk', 'tpm-state=one']);
    expect(readFileSync(bench.path('one')).equals(tpm)).toBe(true);
  });

  it('cost nothing when they did not change', async () => {
    const again = await bench.json(['backup', '100', '--disk', 'scsi0=a.raw', '--blob', 'OVMF_VARS.fd']);
    expect(again.disks[1]).toMatchObject({ name: 'OVMF_VARS.fd', kind: 'blob', unchanged: vars.length, stored: 0 });
    await bench.json(['forget', again.backup]);
  });

  it.each(['vmar', 'tar'])('go along in a .%s and come back', async (format) => {
    const file = bench.path(`a.${format}`);
    await bench.json(['export', backup, '--format', format, '--output', file]);
    const { imported } = await bench.json(['import', file, '--guest', `from-${format}`]);
    expect(kinds(await bench.json(['show', imported[0].backup]))).toEqual(expected());
    await expectRestored(imported[0].backup);
  });

  it('are devices in a .vma, where an empty one has no place', async () => {
    const words = ['export', backup, '--format', 'vma', '--output', bench.path('a.vma')];
    expect(await bench.error(words)).toMatchObject({ code: 'vma-disk', object: 'empty' });
    const fewer = await bench.json(['backup', '101', '--disk', 'scsi0=a.raw', '--blob', 'OVMF_VARS.fd']);
    await bench.json(['export', fewer.backup, '--format', 'vma', '--output', bench.path('a.vma')]);
    await bench.json(['restore', bench.path('a.vma'), '--to', 'vma']);
    expect(readFileSync(bench.path('vma', 'OVMF_VARS.fd.raw')).equals(vars)).toBe(true);
  });

  it('are refused where they could not be restored', async () => {
    const words = ['backup', '102', '--disk', 'scsi0=a.raw', '--blob'];
    expect(await bench.error([...words, 'none'])).toMatchObject({ exit: 1, object: 'none' });
    expect(await bench.error([...words, 'tpm'])).toMatchObject({ exit: 1, object: 'tpm' });
    expect(await bench.error([...words, '-x'])).toMatchObject({ exit: 2, code: 'bad-blob' });
    expect(await bench.error([...words, 'empty', '--blob', 'empty'])).toMatchObject({ exit: 2, code: 'duplicate' });
    expect(await bench.error([...words, 'scsi0.raw=empty'])).toMatchObject({ exit: 2, code: 'duplicate' });
    writeFileSync(bench.path('large'), '');
    truncateSync(bench.path('large'), (64 << 20) + 1);
    expect(await bench.error([...words, 'large'])).toMatchObject({ exit: 1, code: 'blob-too-large' });
    const config = [...words, 'x=empty', '--config', 'x'];
    writeFileSync(bench.path('x'), 'a');
    expect(await bench.error(config)).toMatchObject({ exit: 2, code: 'duplicate' });
    expect(await bench.error(['show', '102'])).toMatchObject({ exit: 4 });
  });
});
