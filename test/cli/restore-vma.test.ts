// SPDX-License-Identifier: MIT
// A .vma file of Proxmox, restored as it is, by both programs.

import { createHash } from 'node:crypto';
import {
  closeSync,
  copyFileSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { describe, expect, it } from 'vitest';
import { vmaFile } from '../archive/vma-file.js';
import { seededRandom } from '../base/random.js';
import { haveTool } from '../base/scratch.js';
import { Bench } from './bench.js';

const SAMPLE = new URL('../fixtures/vma/two-disks.vma.zst', import.meta.url).pathname;
const SCSI0 = 'f6db2e97894ab0d795340c4b51d25e37b6f085d5b45c84d871c2a87215769d40';
const SCSI1 = '3e5ce632aa6ff5dd897ad65fd371eca5559563095cbe0d41c633850709e3e436';

const bench = new Bench();

function sha256(...names: string[]): string {
  return createHash('sha256')
    .update(readFileSync(bench.path(...names)))
    .digest('hex');
}

describe('a .vma file', () => {
  it('is restored without a datastore', async () => {
    copyFileSync(SAMPLE, bench.path('a.vma.zst'));
    const restored = await bench.json(['a.vma.zst', '--to', 'out'], { program: 'vma-restore' });
    expect(restored).toMatchObject({
      backup: 'a.vma.zst',
      disks: [
        { name: 'drive-scsi0', size: 8_388_608 },
        { name: 'drive-scsi1', size: 5_244_416 },
      ],
      configs: ['qemu-server.conf', 'qemu-server.fw'],
      damaged: [],
    });
    for (const { size, written, zero } of restored.disks) expect(written + zero).toBe(size);
    expect([sha256('out', 'drive-scsi0.raw'), sha256('out', 'drive-scsi1.raw')]).toEqual([SCSI0, SCSI1]);
    expect(readdirSync(bench.path('out'))).toHaveLength(4);
  });

  it('gives single disks, by their short names, and leaves others out', async () => {
    await bench.json(['restore', SAMPLE, '--disk', 'scsi1=one.raw']);
    expect(sha256('one.raw')).toBe(SCSI1);
    await bench.json(['restore', SAMPLE, '--to', 'some', '--skip', 'scsi0']);
    expect(existsSync(bench.path('some', 'drive-scsi0.raw'))).toBe(false);
    expect(sha256('some', 'drive-scsi1.raw')).toBe(SCSI1);
    // Zeros are written where something else stood.
    writeFileSync(bench.path('full.raw'), Buffer.alloc(8_388_608, 7));
    expect(await bench.error(['restore', SAMPLE, '--disk', 'scsi0=full.raw'])).toMatchObject({
      code: 'target-not-empty',
    });
    await bench.json(['restore', SAMPLE, '--disk', 'scsi0=full.raw', '--overwrite']);
    expect(sha256('full.raw')).toBe(SCSI0);
    expect(await bench.error(['restore', SAMPLE, '--disk', 'scsi7=x.raw'])).toMatchObject({ exit: 4 });
  });

  it('comes back the same at any length and in any order, its memory state too', async () => {
    const random = seededRandom(5);
    const disks = [1, 511, 65_535, 65_537, 1_234_567].map((length, at) => {
      return { name: `drive-scsi${at}`, content: random.bytes(length).fill(0, length >> 2, length >> 1) };
    });
    disks.push({ name: 'vmstate', content: random.bytes(3 * 65536) });
    writeFileSync(bench.path('shuffled.vma'), vmaFile(disks, { shuffle: random }));
    await bench.json(['restore', 'shuffled.vma', '--to', 'shuffled']);
    for (const { name, content } of disks) {
      expect(readFileSync(bench.path('shuffled', `${name}.raw`)).equals(content), name).toBe(true);
    }
  });

  it('has a memory state of one length, restored or imported: what is claimed, or up to its last block', async () => {
    const content = seededRandom(8).bytes(3 * 65_536 - 20_000);
    const file = vmaFile([{ name: 'vmstate', content }]);
    writeFileSync(bench.path('claimed.vma'), file);
    // The MD5 of the header goes with the length.
    const guessed = Buffer.from(file);
    guessed.writeBigUInt64BE(50_000_000n, 4096 + 32 + 8);
    guessed.fill(0, 32, 48);
    createHash('md5')
      .update(guessed.subarray(0, guessed.readUInt32BE(56)))
      .digest()
      .copy(guessed, 32);
    writeFileSync(bench.path('guessed.vma'), guessed);
    await bench.json(['init', bench.store]);
    for (const [name, sizeBytes] of Object.entries({ claimed: content.byteLength, guessed: 3 * 65_536 - 16_384 })) {
      const { disks } = await bench.json(['restore', `${name}.vma`, '--to', `${name}-direct`]);
      expect(disks).toMatchObject([{ name: 'vmstate', size: sizeBytes }]);
      await bench.json(['import', `${name}.vma`, '--guest', name]);
      await bench.json(['restore', name, '--to', `${name}-imported`]);
      const expected = Buffer.concat([content], sizeBytes);
      for (const how of ['direct', 'imported']) {
        expect(readFileSync(bench.path(`${name}-${how}`, 'vmstate.raw')).equals(expected), `${name} ${how}`).toBe(true);
      }
    }
  });

  it('is taken from standard input, too', async () => {
    const stdin = openSync(SAMPLE, 'r');
    const restored = await bench.json(['-', '--to', 'from-stdin'], { program: 'vma-restore', stdin });
    closeSync(stdin);
    expect(restored).toMatchObject({ backup: '-', configs: ['qemu-server.conf', 'qemu-server.fw'] });
    expect([sha256('from-stdin', 'drive-scsi0.raw'), sha256('from-stdin', 'drive-scsi1.raw')]).toEqual([SCSI0, SCSI1]);
    const nothing = await bench.error(['restore', '-', '--to', 'from-nothing']);
    expect(nothing).toMatchObject({ object: '-', exit: 3 });
    expect(existsSync(bench.path('from-nothing'))).toBe(false);
  });

  it('that is not whole leaves nothing behind', async () => {
    const disk = { name: 'drive-scsi0', content: seededRandom(6).bytes(1_000_000) };
    const whole = vmaFile([disk]);
    for (const at of [100, 13_000, 500_000, whole.byteLength - 1]) {
      writeFileSync(bench.path('cut.vma'), whole.subarray(0, at));
      const error = await bench.error(['cut.vma', '--to', 'cut'], { program: 'vma-restore' });
      expect(error).toMatchObject({ exit: 3, offset: at });
      expect(existsSync(bench.path('cut'))).toBe(false);
    }
  });
});

describe.runIf(haveTool('strace', 'file systems without hard links'))('a file system without hard links', () => {
  /** As FAT, exFAT and some network shares are. */
  const under = [
    'strace',
    '-f',
    '-qq',
    '-o',
    '/dev/null',
    '-e',
    'trace=link,linkat',
    '-e',
    'inject=link,linkat:error=EPERM',
  ];

  it('takes configuration files and what goes beside an export, and keeps what is there', async () => {
    expect((await bench.run(['restore', SAMPLE, '--to', 'unlinked'], { under })).stderr).toBe('');
    expect(sha256('unlinked', 'drive-scsi1.raw')).toBe(SCSI1);
    expect(readdirSync(bench.path('unlinked'))).toHaveLength(4);
    await bench.json(['init', bench.path('beside')]);
    const env = { VMAR_DATASTORE: bench.path('beside') };
    await bench.json(['import', SAMPLE, '--guest', '9', '--time', '1700000000'], { env });
    await bench.json(['notes', '9', '--set', 'kept'], { env });
    const words = ['export', '9', '--format', 'vma', '--output', `${bench.path('unlinked')}/`];
    expect((await bench.run(words, { env, under })).status).toBe(0);
    const [notes] = readdirSync(bench.path('unlinked')).filter((name) => name.endsWith('.notes'));
    expect(readFileSync(bench.path('unlinked', notes as string), 'utf8')).toBe('kept');
    rmSync(bench.path('unlinked', (notes as string).replace(/\.notes$/, '')));
    const { stderr } = await bench.run(words, { env, under });
    expect(stderr).toContain('.notes: the file exists already\n  Choose another directory, or remove it first.');
  });
});
