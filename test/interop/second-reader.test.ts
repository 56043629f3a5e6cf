// SPDX-License-Identifier: MIT
// SPEC.md is complete: a reader in another language, written from it alone, restores what vmar backed up.

import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../base/random.js';
import { scratchDirectory } from '../base/scratch.js';

const PYTHON = '/usr/bin/python3';
const READER = 'test/golden/second-reader.py';
const VMAR = 'dist/bundle/cli/vmar.js';
const base = scratchDirectory();

function havePython(): boolean {
  const found = spawnSync(PYTHON, ['-c', 'import zstandard'], { stdio: 'ignore' }).status === 0;
  if (!found) console.warn(`\n!!! ${PYTHON} with python3-zstandard is missing: NOT TESTED: the second reader\n`);
  return found;
}

function vmar(...args: string[]): void {
  execFileSync(process.execPath, [VMAR, '--quiet', ...args], {
    env: { ...process.env, VMAR_CACHE_DIR: join(base, 'cache') },
  });
}

/** 3 MiB and a bit: text, zeros, noise, and a cluster that stands in several places. */
function makeDisk(path: string, seed: number): Buffer {
  const random = seededRandom(seed);
  const disk = Buffer.alloc(3 * (1 << 20) + 777);
  const noise = random.bytes(65536);
  for (let at = 0; at < disk.length; at += 65536) {
    const piece = disk.subarray(at, at + 65536);
    const what = random.integer(0, 3);
    if (what === 1) piece.fill(`line ${random.integer(0, 9)}\n`);
    else if (what === 2) piece.set(random.bytes(piece.length));
    else if (what === 3) piece.set(noise.subarray(0, piece.length));
  }
  writeFileSync(path, disk);
  return disk;
}

describe.skipIf(!havePython())('the second reader', () => {
  it.each(['blake3', 'sha256'])('restores both nights from a datastore with %s, and an archive', (hash) => {
    const store = join(base, `store-${hash}`);
    const image = join(base, `disk-${hash}.img`);
    vmar('init', store, '--hash', hash);
    const nights = [1_760_000_000, 1_760_086_400].map((time, night) => {
      const content = makeDisk(image, night);
      vmar('--datastore', store, 'backup', '100', '--disk', `drive-scsi0=${image}`, '--time', `${time}`);
      return { time: new Date(time * 1000).toISOString().replace('.000Z', 'Z'), content };
    });
    for (const { time, content } of nights) {
      const out = join(base, `out-${hash}-${time}`);
      execFileSync(PYTHON, [READER, store, '100', 'drive-scsi0', out, time]);
      expect(readFileSync(out).equals(content)).toBe(true);
    }
    if (hash === 'sha256') return;
    const archive = join(base, 'a.vmar');
    vmar('backup', '100', '--disk', `drive-scsi0=${image}`, '--output', archive);
    const out = join(base, 'out-archive');
    execFileSync(PYTHON, [READER, archive, 'drive-scsi0', out]);
    expect(readFileSync(out).equals(nights[1]!.content)).toBe(true);
    // And one of stored frames, of which other backups have parts.
    const exported = join(base, 'b.vmar');
    vmar('--datastore', store, 'export', `vm/100/${nights[0]!.time}`, '--output', exported);
    execFileSync(PYTHON, [READER, exported, 'drive-scsi0', `${out}-b`]);
    expect(readFileSync(`${out}-b`).equals(nights[0]!.content)).toBe(true);
  });
});
