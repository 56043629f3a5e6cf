// SPDX-License-Identifier: MIT
// The recipe of README.md, "Single files out of a backup": served, shown as a file by nbdfuse, read with debugfs, also out
// of a partition.

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { haveTool } from '../base/scratch.js';
import { Bench } from '../cli/bench.js';
import { makeImage } from '../cli/images.js';
import { type Serving, serve, tool } from '../cli/serving.js';

const MIB = 1 << 20;
const FILE_SYSTEM_BYTES = 24 * MIB;
const bench = new Bench();
const content = Buffer.alloc(300_000, 'what somebody deleted by mistake\n');

/** e2fsprogs say their version with -V and know no --version. */
function haveE2fs(): boolean {
  const isThere = ['mke2fs', 'debugfs'].every(
    (name) => spawnSync(name, ['-V'], { stdio: 'ignore' }).error === undefined,
  );
  if (!isThere) console.warn('\n!!! mke2fs or debugfs is missing: NOT TESTED: single files out of a backup\n');
  return isThere;
}

const haveFuse = haveTool('nbdfuse', 'single files through nbdfuse') && existsSync('/dev/fuse');
const haveCopy = haveTool('nbdcopy', 'single files out of a copy of the disk');

/** A file system with a file in it, as a disk and in the first partition of a larger one. */
async function makeDisks(): Promise<void> {
  mkdirSync(bench.path('files', 'home'), { recursive: true });
  writeFileSync(bench.path('files', 'home', 'letter.txt'), content);
  const plain = makeImage(bench.path('plain.raw'), FILE_SYSTEM_BYTES);
  await tool('mke2fs', '-q', '-t', 'ext4', '-d', bench.path('files'), plain);
  // The partition table of a PC: one entry, type 0x83, from sector 2048 on.
  const entry = Buffer.alloc(16);
  entry[4] = 0x83;
  entry.writeUInt32LE(2048, 8);
  entry.writeUInt32LE(FILE_SYSTEM_BYTES / 512, 12);
  makeImage(bench.path('parted.raw'), FILE_SYSTEM_BYTES + 2 * MIB, [
    { at: 446, bytes: entry },
    { at: 510, bytes: Buffer.from([0x55, 0xaa]) },
    { at: MIB, bytes: readFileSync(plain) },
  ]);
}

/** Reads the letter out of the file system that an image holds at an offset. */
async function letter(image: string, offsetBytes: number, into: string): Promise<Buffer> {
  const place = offsetBytes === 0 ? image : `${image}?offset=${offsetBytes}`;
  await tool('debugfs', '-R', `dump /home/letter.txt ${into}`, place);
  return readFileSync(into);
}

/** The export as a file while the action runs; undefined where this machine does not let us mount. */
async function withFuse<Result>(uri: string, name: string, action: (file: string) => Promise<Result>) {
  const mountPoint = bench.path(name);
  mkdirSync(mountPoint);
  const file = `${mountPoint}/disk.raw`;
  const fuse = spawn('nbdfuse', [file, uri], { stdio: 'ignore' });
  const ended = new Promise((resolve) => fuse.once('exit', resolve));
  try {
    for (let turns = 0; !existsSync(file); turns++) {
      if (turns > 5000 || fuse.exitCode !== null) return undefined;
      await delay(20);
    }
    return await action(file);
  } finally {
    if (fuse.exitCode === null) {
      if (spawnSync('fusermount3', ['-u', mountPoint]).status !== 0) spawnSync('umount', [mountPoint]);
      await Promise.race([ended, delay(5000)]);
      fuse.kill();
      await ended;
    }
  }
}

describe.skipIf(!haveE2fs())('a single file', () => {
  beforeAll(async () => {
    await bench.json(['init', bench.store]);
    await makeDisks();
    await bench.json(['backup', '100', '--disk', 'plain=plain.raw', '--disk', 'parted=parted.raw']);
  });

  const served = async (socket: string, action: (serving: Serving) => Promise<void>): Promise<void> => {
    const serving = await serve(bench, ['100', '--socket', socket]);
    await action(serving).finally(() => serving.stop());
  };

  it.skipIf(!haveFuse).each([
    ['plain', 0],
    ['parted', MIB],
  ] as const)('comes out of the %s disk through nbdfuse', async (disk, offset) => {
    await served(`fuse-${disk}`, async (serving) => {
      const found = await withFuse(serving.uri(disk), `mount-${disk}`, (file) =>
        letter(file, offset, bench.path(`${disk}.1`)),
      );
      if (found === undefined)
        console.warn('\n!!! FUSE is not allowed here: NOT TESTED: single files through nbdfuse\n');
      else expect(found.equals(content)).toBe(true);
    });
  });

  it.skipIf(!haveCopy)('comes out of a copy of the export', async () => {
    await served('copied', async (serving) => {
      const copy = bench.path('copy.raw');
      await tool('nbdcopy', serving.uri('parted'), copy);
      expect((await letter(copy, MIB, bench.path('parted.2'))).equals(content)).toBe(true);
    });
  });
});
