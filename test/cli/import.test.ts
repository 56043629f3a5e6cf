// SPDX-License-Identifier: MIT
// vmar import as it is used: single files, a folder of nights, standard input, and files that are not whole.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, copyFileSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { decompress } from 'zstd-napi';
import { vmaFile } from '../archive/vma-file.js';
import { seededRandom } from '../base/random.js';
import { haveTool } from '../base/scratch.js';
import { Bench } from './bench.js';

const SAMPLE = new URL('../fixtures/vma/two-disks.vma.zst', import.meta.url).pathname;
/** As the page beside the sample has them. */
const HASHES = {
  'drive-scsi0.raw': 'f6db2e97894ab0d795340c4b51d25e37b6f085d5b45c84d871c2a87215769d40',
  'drive-scsi1.raw': '3e5ce632aa6ff5dd897ad65fd371eca5559563095cbe0d41c633850709e3e436',
  'qemu-server.conf': '61fb2d13d6a86442a435451f08a1274e7e3fc0e9c3c7f00bc5fb29ddc2bebb0b',
  'qemu-server.fw': '0387acfb0fc487522a0460902e01698618787c6928095bdbfc8007d1ac8ae23d',
};

const bench = new Bench();

beforeAll(async () => {
  await bench.json(['init', bench.store]);
});

function expectSample(directory: string): void {
  for (const [name, hash] of Object.entries(HASHES)) {
    const content = readFileSync(bench.path(directory, name));
    expect(createHash('sha256').update(content).digest('hex'), name).toBe(hash);
  }
}

describe('vmar import', () => {
  it('takes a file of Proxmox, once', async () => {
    const file = bench.path('vzdump-qemu-100-2026_11_20-02_00_00.vma.zst');
    copyFileSync(SAMPLE, file);
    const { imported, failed, ...sums } = await bench.json(['import', file]);
    const backup = 'vm/100/2026-11-20T02:00:00Z';
    expect(imported).toMatchObject([{ file, backup, known: false, size: 13_633_024 }]);
    expect(failed).toEqual([]);
    expect(sums).toMatchObject({ size: 13_633_024, new: imported[0].new, stored: imported[0].stored });
    await bench.json(['restore', backup, '--to', 'sample']);
    expectSample('sample');
    const again = await bench.run(['import', file]);
    expect(again).toMatchObject({ status: 0 });
    expect(again.text).toContain('was there already');
    expect((await bench.json(['list'])).backups).toHaveLength(1);
    expect((await bench.json(['verify'])).ok).toBe(true);
  });

  it('wants to be told the guest where no name does', async () => {
    const error = await bench.error(['import', SAMPLE]);
    expect(error).toMatchObject({ code: 'guest-unknown', exit: 2, advice: 'Give it with --guest ID.' });
    const { imported } = await bench.json(['import', SAMPLE, '--guest', 'lab/vm/7', '--time', '1700000000']);
    expect(imported[0].backup).toBe('lab/vm/7/2023-11-14T22:13:20Z');
  });

  it('takes standard input', async () => {
    const fd = openSync(SAMPLE, 'r');
    const child = bench.start(['--json', 'import', '-', '--guest', '55'], { stdin: fd });
    const finished = await child.finished;
    closeSync(fd);
    expect(finished.json().imported).toMatchObject([{ file: '-', known: false }]);
    await bench.json(['restore', '55', '--to', 'from-stdin']);
    expectSample('from-stdin');
  });

  it('takes a folder of nights, oldest first, and says which file is not whole', async () => {
    const random = seededRandom(3);
    const content = random.bytes(2_000_000);
    mkdirSync(bench.path('dump'));
    for (const night of [3, 1, 2]) {
      content.set(random.bytes(100), night * 100_000);
      const file = vmaFile([{ name: 'drive-scsi0', content }], { uuid: random.bytes(16), shuffle: random });
      writeFileSync(bench.path('dump', `vzdump-qemu-300-2026_11_0${night}-01_00_00.vma`), file);
    }
    const cut = vmaFile([{ name: 'drive-scsi0', content }]).subarray(0, 500_000);
    writeFileSync(bench.path('dump', 'vzdump-qemu-300-2026_11_04-01_00_00.vma'), cut);
    writeFileSync(bench.path('dump', 'README.txt'), 'not an archive');
    const finished = await bench.run(['--json', 'import', 'dump']);
    expect(finished.status).toBe(3);
    const { imported, failed, stored } = finished.json();
    expect(imported.map((each: { backup: string }) => each.backup)).toEqual([
      'vm/300/2026-11-01T01:00:00Z',
      'vm/300/2026-11-02T01:00:00Z',
      'vm/300/2026-11-03T01:00:00Z',
    ]);
    expect(failed).toMatchObject([{ error: { code: 'vma-cut', offset: 500_000, exit: 3 } }]);
    expect(stored).toBeLessThan(2_500_000);
    expect((await bench.json(['list', '300'])).backups).toHaveLength(3);
  });

  it('says which package lzop is in, or uses it', async () => {
    const plain = bench.path('plain.vma');
    writeFileSync(plain, decompress(readFileSync(SAMPLE)));
    if (haveTool('lzop', 'imports of .vma.lzo')) {
      expect(spawnSync('lzop', [plain]).status).toBe(0);
      await bench.json(['import', `${plain}.lzo`, '--guest', '77']);
      await bench.json(['restore', '77', '--to', 'from-lzop']);
      expectSample('from-lzop');
      const half = readFileSync(plain).byteLength >> 1;
      const parts = [readFileSync(plain).subarray(0, half), readFileSync(plain).subarray(half)];
      const members = parts.map((input) => spawnSync('lzop', ['-c'], { input }).stdout);
      writeFileSync(`${plain}.two.lzo`, Buffer.concat(members));
      expect((await bench.json(['import', `${plain}.two.lzo`, '--guest', '79'])).imported[0]).toMatchObject({ new: 0 });
      writeFileSync(`${plain}.cut.lzo`, readFileSync(`${plain}.lzo`).subarray(0, 5000));
      expect(await bench.error(['import', `${plain}.cut.lzo`, '--guest', '78'])).toMatchObject({ exit: 3 });
      return;
    }
    const start = Buffer.from([0x89, 0x4c, 0x5a, 0x4f, 0x00, 0x0d, 0x0a, 0x1a, 0x0a, 0x10, 0x30, 0x20, 0x60, 0, 0, 0]);
    writeFileSync(bench.path('vzdump-qemu-1-2026_11_20-02_00_00.vma.lzo'), start);
    const error = await bench.error(['import', 'vzdump-qemu-1-2026_11_20-02_00_00.vma.lzo']);
    expect(error).toMatchObject({ code: 'no-lzop', exit: 1, advice: 'Install it: apt-get install lzop.' });
  });

  it('refuses what it does not know, and what is not there', async () => {
    writeFileSync(bench.path('text'), 'hello');
    expect(await bench.error(['import', 'text', '--guest', '1'])).toMatchObject({ code: 'unknown-format', exit: 1 });
    expect(await bench.error(['import', 'nowhere'])).toMatchObject({ code: 'no-such-file', exit: 4 });
    if (haveTool('tar', 'archives of containers')) {
      mkdirSync(bench.path('root', 'etc'), { recursive: true });
      const container = 'vzdump-lxc-105-2026_11_20-02_00_00.tar';
      expect(spawnSync('tar', ['-C', bench.path('root'), '-cf', bench.path(container), './etc']).status).toBe(0);
      const refused = await bench.error(['import', container]);
      expect(refused).toMatchObject({ code: 'unknown-format', exit: 1 });
      expect(refused.advice).toContain('no archives of containers');
    }
    mkdirSync(bench.path('empty'));
    expect(await bench.error(['import', 'empty'])).toMatchObject({ code: 'no-archives', exit: 4 });
  });

  it('takes an archive of ours, and knows the backup that it was made of', async () => {
    writeFileSync(bench.path('disk.raw'), seededRandom(8).bytes(1_234_567));
    const to = ['--disk', 'scsi0=disk.raw', '--time', '1700000100'];
    await bench.json(['backup', '200', ...to, '--output', 'a.vmar']);
    const { imported } = await bench.json(['import', 'a.vmar']);
    expect(imported).toMatchObject([{ backup: 'vm/200/2023-11-14T22:15:00Z', known: false }]);
    expect((await bench.json(['import', 'a.vmar'])).imported).toMatchObject([{ known: true }]);
    await bench.json(['restore', '200', '--to', 'out-200']);
    expect(readFileSync(bench.path('out-200', 'scsi0.raw')).equals(readFileSync(bench.path('disk.raw')))).toBe(true);
  });
});
