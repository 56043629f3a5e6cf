// SPDX-License-Identifier: MIT
// Archives: made by backup --output, looked at by every command that takes one.

import { closeSync, existsSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { Bench } from './bench.js';
import { CLUSTER, mixedImage, patch } from './images.js';

const bench = new Bench();
/** Archives need no datastore. */
const env = { VMAR_DATASTORE: undefined };
const BACKUP = ['backup', '100', '--disk', 'scsi0=a.raw', '--config', '100.conf'];

beforeAll(async () => {
  mixedImage(bench.path('a.raw'));
  writeFileSync(bench.path('100.conf'), 'cores: 2\n');
});

describe('an archive', () => {
  it('is made, shown, verified and restored', async () => {
    const made = await bench.json([...BACKUP, '--output', 'a.vmar', '--time', '1000000000'], { env });
    expect(made).toMatchObject({ backup: 'a.vmar', disks: [{ name: 'scsi0', new: 4 * CLUSTER + 1234 }] });
    const shown = await bench.json(['show', 'a.vmar'], { env });
    expect(shown).toMatchObject({
      backup: 'a.vmar',
      guest: 'vm/100',
      time: '2001-09-09T01:46:40Z',
      disks: [{ name: 'scsi0' }],
      configs: [{ name: '100.conf', size: 9 }],
      labels: {},
      protected: false,
      packs: [],
    });
    const verified = await bench.json(['verify', 'a.vmar'], { env });
    expect(verified).toMatchObject({ ok: true, damage: [], checked: { backups: 1, disks: 1 } });
    await bench.json(['restore', './a.vmar', '--to', 'out'], { env });
    expect(readFileSync(bench.path('out', 'scsi0.raw')).equals(readFileSync(bench.path('a.raw')))).toBe(true);
    expect(readFileSync(bench.path('out', '100.conf'), 'utf8')).toBe('cores: 2\n');
  });

  it('goes to standard output, and nothing else does', async () => {
    const out = openSync(bench.path('piped.vmar'), 'w');
    const { status, stderr } = await bench.run([...BACKUP, '--output', '-'], { env, stdout: out });
    closeSync(out);
    expect(status).toBe(0);
    expect(stderr).toContain('archive done');
    expect(await bench.json(['verify', 'piped.vmar'], { env })).toMatchObject({ ok: true });

    const piped = await bench.run([...BACKUP, '--output', '-', '--quiet'], { env });
    expect(piped).toMatchObject({ status: 0, stderr: '' });
    writeFileSync(bench.path('again.vmar'), piped.stdout);
    expect(await bench.json(['verify', 'again.vmar', './piped.vmar'], { env })).toMatchObject({
      ok: true,
      checked: { backups: 2 },
    });
  });

  it('on standard output leaves no room for --json', async () => {
    const { status, text, stderr } = await bench.run([...BACKUP, '--output', '-', '--json'], { env });
    expect({ status, text }).toEqual({ status: 2, text: '' });
    expect(stderr).toContain('--json');
  });

  it('that nobody can write fails', async () => {
    const full = await bench.run([...BACKUP, '--output', '-'], { env, stdout: openSync('/dev/full', 'w') });
    expect(full.status).toBe(1);
    expect(full.stderr).toContain('standard output');
    expect(await bench.error([...BACKUP, '--output', 'none/x.vmar'], { env })).toMatchObject({ exit: 1 });
  });

  it('never takes the place of a file', async () => {
    writeFileSync(bench.path('mine.vmar'), 'mine');
    expect(await bench.error([...BACKUP, '--output', 'mine.vmar'], { env })).toMatchObject({ exit: 1 });
    expect(readFileSync(bench.path('mine.vmar'), 'utf8')).toBe('mine');
  });

  it('ends in .vmar, or is asked for by name', async () => {
    expect(await bench.error([...BACKUP, '--output', 'x.img'], { env })).toMatchObject({ exit: 2, code: 'bad-output' });
    await bench.json([...BACKUP, '--output', 'x.img', '--format', 'vmar'], { env });
    expect(await bench.json(['verify', './x.img'], { env })).toMatchObject({ ok: true });
  });

  it('has no labels', async () => {
    const words = [...BACKUP, '--output', 'l.vmar', '--label', 'a=b'];
    expect(await bench.error(words, { env })).toMatchObject({ exit: 2 });
  });

  it('that failed is not there', async () => {
    const before = readdirSync(bench.directory).sort();
    const words = [...BACKUP, '--disk', 'gone=gone.raw', '--output', 'f.vmar'];
    expect(await bench.error(words, { env })).toMatchObject({ exit: 1, object: 'gone.raw' });
    expect(existsSync(bench.path('f.vmar'))).toBe(false);
    expect(readdirSync(bench.directory).sort()).toEqual(before);
  });
});

describe('archives on the command line', () => {
  it('that are missing, or none', async () => {
    for (const command of ['show', 'verify']) {
      expect(await bench.error([command, 'none.vmar'], { env }), command).toMatchObject({
        exit: 4,
        object: 'none.vmar',
      });
    }
    writeFileSync(bench.path('text.vmar'), 'This is no archive. '.repeat(100));
    const shown = await bench.error(['show', 'text.vmar'], { env });
    expect([1, 3]).toContain(shown.exit);
    expect((await bench.run(['verify', 'text.vmar'], { env })).status).not.toBe(0);
  });

  it.each(['x.vma', '/x/y.vma.zst', 'x.vma.gz', 'x.vma.lzo'])(
    'of Proxmox are read from front to back, and so not compared: %s',
    async (name) => {
      const advice = expect.stringContaining('vmar import');
      for (const words of [
        ['diff', name, name],
        ['serve', name, '--socket', 's.sock'],
      ]) {
        expect(await bench.error(words, { env })).toMatchObject({ exit: 1, code: 'foreign-archive', advice });
      }
      for (const words of [
        ['show', name],
        ['verify', name],
        ['restore', name, '--to', 'o'],
      ]) {
        expect(await bench.error(words, { env })).toMatchObject({ exit: 4 });
      }
    },
  );

  it('is listed as the only backup', async () => {
    const shown = await bench.json(['show', 'a.vmar'], { env });
    const { backups } = await bench.json(['list', 'a.vmar'], { env });
    const [{ size }] = shown.disks;
    expect(backups).toEqual([
      {
        backup: 'a.vmar',
        guest: shown.guest,
        time: shown.time,
        size,
        disks: [{ name: 'scsi0', size }],
        protected: false,
      },
    ]);
    expect((await bench.run(['list', 'a.vmar'], { env })).text).toMatch(/^backup .*\na\.vmar /);
  });

  it('can be compared', async () => {
    mixedImage(bench.path('b.raw'));
    const first = await bench.json(['backup', '1', '--disk', 'd=b.raw', '--output', 'd1.vmar'], { env });
    patch(bench.path('b.raw'), 5 * CLUSTER + 7, Buffer.from('x'));
    await bench.json(['backup', '2', '--disk', 'd=b.raw', '--output', 'd2.vmar'], { env });
    const document = await bench.json(['diff', 'd1.vmar', 'd2.vmar'], { env });
    expect(document).toEqual({
      a: first.backup,
      b: 'd2.vmar',
      disks: [{ name: 'd', changedBytes: CLUSTER, extents: [{ offset: 5 * CLUSTER, length: CLUSTER }] }],
    });
  });

  it('cut off or flipped are damaged', async () => {
    const whole = readFileSync(bench.path('a.vmar'));
    writeFileSync(bench.path('cut.vmar'), whole.subarray(0, whole.length - 1));
    const flipped = Buffer.from(whole);
    flipped[2000]! ^= 1;
    writeFileSync(bench.path('flipped.vmar'), flipped);
    for (const name of ['cut.vmar', 'flipped.vmar']) {
      const { status, json } = await bench.run(['--json', 'verify', name], { env });
      expect(status, name).toBe(3);
      expect(json(), name).toMatchObject({ ok: false, damage: [{ file: name }] });
    }
  });
});
