// SPDX-License-Identifier: MIT
// A second reader and writer (test/golden/second-vma.py) knows nothing of this program but SPEC.md: each reads what the
// other writes, and both refuse the same.

import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { VmaWriter } from '#vmar/formats/vma/writer.js';
import { seededRandom } from '../../base/random.js';
import { haveTool, scratchDirectory } from '../../base/scratch.js';
import { extract } from './extracted.js';
import { extentOffsets, sealExtent, sealHeader } from './forge.js';
import { readSample, SAMPLE_FACTS } from './sample.js';

const SCRIPT = fileURLToPath(new URL('../../golden/second-vma.py', import.meta.url));
const PYTHON = '/usr/bin/python3';
const CLUSTER = 65536;
const scratch = scratchDirectory();
const seed = Number(process.env.VMAR_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));

function run(...args: string[]): { status: number | null; stderr: string } {
  const { status, stderr } = spawnSync(PYTHON, ['-B', SCRIPT, ...args], { encoding: 'utf8' });
  return { status, stderr };
}

/** What the second reader extracts. */
function secondExtract(archive: Uint8Array): Map<string, Buffer> {
  const file = join(scratch, 'in.vma');
  const target = join(scratch, 'out');
  rmSync(target, { recursive: true, force: true });
  writeFileSync(file, archive);
  expect(run('extract', file, target)).toEqual({ status: 0, stderr: '' });
  return new Map(readdirSync(target).map((name) => [name, readFileSync(join(target, name))]));
}

const random = seededRandom(seed);
function content(lengthBytes: number): Buffer {
  const bytes = Buffer.alloc(lengthBytes);
  for (let at = 0; at < lengthBytes; at += 4096) {
    if (random.oneIn(3)) bytes[random.integer(at, Math.min(at + 4096, lengthBytes) - 1)] = random.integer(1, 255);
  }
  return bytes;
}

const DISKS = [
  { id: 1, name: 'drive-scsi0', content: content(130 * CLUSTER + 12345) },
  { id: 2, name: 'drive-efidisk0', content: content(540_672) },
  { id: 3, name: 'vmstate', content: content(3 * CLUSTER + 4096) },
];

describe.runIf(haveTool(PYTHON, 'the second reader and writer of .vma'))(`the second reader (seed ${seed})`, () => {
  it('extracts what the real tool wrote', () => {
    const files = secondExtract(readSample());
    const { contents } = extract(readSample());
    expect([...files.keys()].sort()).toEqual([
      'disk-drive-scsi0.raw',
      'disk-drive-scsi1.raw',
      ...SAMPLE_FACTS.configs.map(({ name }) => name),
    ]);
    expect(files.get('disk-drive-scsi0.raw')!.equals(contents.get(1)!)).toBe(true);
    expect(files.get('disk-drive-scsi1.raw')!.equals(contents.get(2)!)).toBe(true);
  });

  it('extracts what we write, to the byte', () => {
    const devices = DISKS.map(({ id, name, content }) => ({ id, name, sizeBytes: content.byteLength }));
    const configs = [{ name: 'qemu-server.conf', content: Buffer.from('cores: 2\n') }];
    const writer = new VmaWriter({ uuid: random.bytes(16), timeSeconds: 1, configs, devices });
    const parts = [writer.header()];
    for (const { id, content } of DISKS) {
      for (let at = 0; at < content.byteLength; at += CLUSTER) {
        parts.push(...writer.cluster(id, at / CLUSTER, content.subarray(at, at + CLUSTER)));
      }
    }
    const files = secondExtract(Buffer.concat([...parts, ...writer.end()]));
    expect(files.get('qemu-server.conf')!.toString()).toBe('cores: 2\n');
    expect(files.get('disk-drive-scsi0.raw')!.equals(DISKS[0]!.content)).toBe(true);
    expect(files.get('disk-drive-efidisk0.raw')!.equals(DISKS[1]!.content)).toBe(true);
    expect(files.get('vmstate.bin')!.subarray(0, DISKS[2]!.content.byteLength).equals(DISKS[2]!.content)).toBe(true);
  });

  it.each(['straight', 'reversed', 'interleaved'])('writes what we read, %s', (order) => {
    const file = join(scratch, `${order}.vma`);
    // A stream does not come backwards.
    const disks = order === 'reversed' ? DISKS.slice(0, 2) : DISKS;
    const sources = disks.map(({ name, content }) => {
      writeFileSync(join(scratch, name), content);
      return `${name}=${join(scratch, name)}`;
    });
    writeFileSync(join(scratch, 'a.conf'), 'cores: 1\n');
    expect(run('create', file, order, `a.conf=${join(scratch, 'a.conf')}`, ...sources)).toEqual({
      status: 0,
      stderr: '',
    });
    const { header, contents } = extract(readFileSync(file), () => random.integer(1, 99_999));
    expect(header.configs.map(({ name, content }) => `${name}: ${Buffer.from(content)}`)).toEqual([
      'a.conf: cores: 1\n',
    ]);
    for (const { id, content } of disks) {
      expect(content.equals(contents.get(id)!.subarray(0, content.byteLength))).toBe(true);
    }
  });

  it('finds nothing amiss in what the real tool wrote, nor in what we write', () => {
    const many = Array.from({ length: 254 }, (_, at) => ({
      id: at + 1,
      name: `d${at}`,
      content: content(at * 600 + 1),
    }));
    for (const [index, disks] of [DISKS, many].entries()) {
      const devices = disks.map(({ id, name, content }) => ({ id, name, sizeBytes: content.byteLength }));
      const configs = [{ name: 'qemu-server.conf', content: Buffer.from('cores: 2\n') }];
      const writer = new VmaWriter({ uuid: random.bytes(16), timeSeconds: 1, configs, devices });
      const parts = [writer.header()];
      for (const { id, content } of disks) {
        for (let at = 0; at < content.byteLength; at += CLUSTER) {
          parts.push(...writer.cluster(id, at / CLUSTER, content.subarray(at, at + CLUSTER)));
        }
      }
      writeFileSync(join(scratch, `strict-${index}.vma`), Buffer.concat([...parts, ...writer.end()]));
    }
    writeFileSync(join(scratch, 'strict-real.vma'), readSample());
    const files = ['strict-0', 'strict-1', 'strict-real'].map((name) => join(scratch, `${name}.vma`));
    expect(run('strict', ...files)).toEqual({ status: 0, stderr: '' });
  });

  it('is strict: it finds what only careless writers do', () => {
    const sample = Buffer.from(readSample());
    const [first, second] = extentOffsets(sample) as [number, number];
    const header = (change: (bytes: Buffer) => void) => {
      const copy = Buffer.from(sample);
      change(copy);
      return sealHeader(copy);
    };
    const extent = (change: (bytes: Buffer) => void) => {
      const copy = Buffer.from(sample);
      change(copy);
      return sealExtent(copy, first);
    };
    const careless = {
      'reserved bytes': header((bytes) => bytes.writeUInt8(1, 100)),
      'reserved bytes of a device': header((bytes) => bytes.writeUInt8(1, 4128 + 20)),
      'padding of the blob buffer': header((bytes) => bytes.writeUInt8(1, 12799)),
      entry: extent((bytes) => bytes.writeUInt8(1, first + 42)),
      'a block of zeros is left out': (() => {
        const copy = Buffer.from(sample);
        return copy.fill(0, first + 512, first + 512 + 4096);
      })(),
      'every cluster': sample.subarray(0, second),
    };
    for (const [what, bytes] of Object.entries(careless)) {
      const file = join(scratch, 'careless.vma');
      writeFileSync(file, bytes);
      const { status, stderr } = run('strict', file);
      expect(`${status} ${stderr}`, what).toContain(`3 Damage: ${file}: ${what}`);
    }
  });

  it('refuses what we refuse', () => {
    const sample = Buffer.from(readSample());
    const [first, second] = extentOffsets(sample) as [number, number];
    const file = join(scratch, 'damaged.vma');
    const damaged = [
      ...[4, 40, 100, 12300, first + 1, first + 50].map((at) => Buffer.from(sample).fill(0x77, at, at + 1)),
      ...[50, 12288, first, first + 511, second, second + 1, sample.byteLength - 1].map((at) => sample.subarray(0, at)),
      Buffer.concat([sample, Buffer.alloc(1)]),
      Buffer.concat([sample, sample.subarray(first, second)]),
    ];
    for (const [index, bytes] of damaged.entries()) {
      writeFileSync(file, bytes);
      rmSync(join(scratch, 'refused'), { recursive: true, force: true });
      expect(run('extract', file, join(scratch, 'refused')).status, `case ${index}`).toBe(3);
      expect(() => extract(bytes), `case ${index}`).toThrow();
    }
  });
});
