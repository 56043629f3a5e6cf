// SPDX-License-Identifier: MIT
// The second reader (test/golden/second-reader.py) knows nothing of this program but SPEC.md: what it reads is as the
// specification says, and what it refuses we do not write.

import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { blake3 } from '@noble/hashes/blake3.js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NO_FEATURES } from '#vmar/formats/vmar/features.js';
import type { HashName } from '#vmar/formats/vmar/hash.js';
import { encodeManifest, type Manifest } from '#vmar/formats/vmar/manifest.js';
import { encodeSuperblock } from '#vmar/formats/vmar/superblock.js';
import { ContainerFixture, type MappedDisk, mapDisk } from './container-fixture.js';
import { counting, HASHES, manifestSample, superblockSample, TIME_SECONDS } from './samples.js';

const READER = fileURLToPath(new URL('../../golden/second-reader.py', import.meta.url));
const PYTHON = '/usr/bin/python3';
const CLUSTER = 65536;
const FANOUT = 16;

const hasPython = existsSync(PYTHON);
const hasZstandard = hasPython && spawnSync(PYTHON, ['-c', 'import zstandard']).status === 0;
if (!hasZstandard) {
  console.warn(
    `NOT TESTED: the second reader; ${PYTHON} or its zstandard is missing (apt-get install python3-zstandard)`,
  );
}

/** 300 clusters and a bit, mostly zero: at a fan-out of 16 its map has three levels. */
function diskContent(): Uint8Array {
  const content = new Uint8Array(300 * CLUSTER + 1234);
  for (const cluster of [0, 1, 15, 16, 17, 254, 255, 256, 299]) {
    for (let at = 0; at < CLUSTER; at += 7) content[cluster * CLUSTER + at] = (cluster + at * at) & 0xff;
  }
  content.fill(0x5a, 16 * CLUSTER, 17 * CLUSTER);
  content.fill(0x5a, 200 * CLUSTER, 201 * CLUSTER);
  content.fill(7, 300 * CLUSTER);
  return content;
}

const CONTENT = diskContent();

function headerOf(hash: HashName, containerId: Uint8Array) {
  const times = { clusterSizeBytes: CLUSTER, mapFanout: FANOUT, createdSeconds: TIME_SECONDS };
  return { ...times, features: NO_FEATURES, containerId, writerId: counting(0x30, 16), hash };
}

function manifestOf(hash: HashName, root: Uint8Array): Manifest {
  const sample = manifestSample(hash);
  const disk = { ...sample.disks[0]!, sizeBytes: CONTENT.byteLength, clusterSizeBytes: CLUSTER, mapRoot: root };
  const zeros = { ...disk, name: 'zeros', mapRoot: new Uint8Array(32) };
  const empty = { ...zeros, name: 'empty', sizeBytes: 0 };
  return { ...sample, mapFanout: FANOUT, disks: [disk, zeros, empty] };
}

/** Two clusters a frame. */
function framesOf(contents: MappedDisk['data']) {
  return Array.from({ length: Math.ceil(contents.length / 2) }, (_, index) => contents.slice(index * 2, index * 2 + 2));
}

function archiveOf(hash: HashName): Uint8Array {
  const disk = mapDisk(CONTENT, CLUSTER, FANOUT, hash);
  const header = headerOf(hash, counting(0x10, 16));
  const archive = new ContainerFixture({ ...header, use: 'archive', storeUuid: new Uint8Array(16), content: 'both' });
  archive.appendManifest(4, encodeManifest(manifestOf(hash, new Uint8Array(32))));
  archive.append(1, framesOf(disk.data));
  archive.append(2, framesOf(disk.pages));
  archive.appendManifest(3, encodeManifest(manifestOf(hash, disk.root)));
  return archive.finish();
}

function writeDatastore(root: string, hash: HashName): void {
  const disk = mapDisk(CONTENT, CLUSTER, FANOUT, hash);
  const write = (path: string, bytes: Uint8Array): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), bytes);
  };
  write('datastore.pb', encodeSuperblock({ ...superblockSample(hash), clusterSizeBytes: CLUSTER, mapFanout: FANOUT }));
  const packs = { data: counting(0xa0, 16), maps: counting(0xb0, 16) };
  for (const [content, id] of Object.entries(packs) as ['data' | 'maps', Uint8Array][]) {
    const header = { ...headerOf(hash, id), use: 'pack' as const, storeUuid: counting(0x20, 16), content };
    const pack = new ContainerFixture(header);
    if (content === 'data') pack.append(1, framesOf(disk.data));
    else pack.append(2, framesOf(disk.pages));
    const name = Buffer.from(id).toString('hex');
    write(`packs/${name.slice(0, 2)}/${name}.vmar`, pack.finish());
  }
  const guest = 'manifests/north/rack-2/vm/100';
  write(`${guest}/2026-11-20T02:00:00Z.manifest`, encodeManifest(manifestOf(hash, new Uint8Array(32))));
  write(`${guest}/2026-11-21T02:00:00Z.manifest`, encodeManifest(manifestOf(hash, disk.root)));
}

const scratch = mkdtempSync(join(tmpdir(), 'vmar-second-reader-'));
afterAll(() => rmSync(scratch, { recursive: true }));

function read(...args: string[]): { status: number | null; stderr: string } {
  const { status, stderr } = spawnSync(PYTHON, ['-B', READER, ...args], { encoding: 'utf8' });
  return { status, stderr };
}

function expectRestored(path: string, content: Uint8Array): void {
  expect(readFileSync(path).equals(content)).toBe(true);
}

describe.runIf(hasPython)('the BLAKE3 of the second reader', () => {
  const lengths = [0, 1, 63, 64, 65, 1023, 1024, 1025, 2048, 2049, 3072, 4097, 7168, 16385, 65536, 100_000];

  it('is that of the reference, keyed and for deriving keys', () => {
    const program = `
import importlib.util, sys
spec = importlib.util.spec_from_file_location("reader", sys.argv[1])
reader = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reader)
for length in map(int, sys.argv[2:]):
    data = bytes(at % 251 for at in range(length))
    print(reader.blake3_keyed(bytes(range(32)), data).hex(), reader.blake3_derive(b"a context", data).hex())
`;
    const printed = execFileSync(PYTHON, ['-B', '-c', program, READER, ...lengths.map(String)], { encoding: 'utf8' });
    const wanted = lengths.map((length) => {
      const data = Uint8Array.from({ length }, (_, at) => at % 251);
      const hashes = [blake3(data, { key: counting(0, 32) }), blake3(data, { context: Buffer.from('a context') })];
      return hashes.map((hash) => Buffer.from(hash).toString('hex')).join(' ');
    });
    expect(printed.trim().split('\n')).toEqual(wanted);
  });
});

describe.runIf(hasZstandard).each(HASHES)('%s: the second reader', (hash) => {
  const archive = join(scratch, `${hash}.vmar`);
  const store = join(scratch, `store-${hash}`);
  const out = join(scratch, 'out');
  beforeAll(() => {
    writeFileSync(archive, archiveOf(hash));
    writeDatastore(store, hash);
  });

  it('restores disks out of an archive, to the byte', () => {
    expect(read(archive, 'drive-scsi0', out)).toEqual({ status: 0, stderr: '' });
    expectRestored(out, CONTENT);
    expect(read(archive, 'zeros', out)).toEqual({ status: 0, stderr: '' });
    expectRestored(out, new Uint8Array(CONTENT.byteLength));
    expect(read(archive, 'empty', out)).toEqual({ status: 0, stderr: '' });
    expectRestored(out, new Uint8Array(0));
  });

  it('restores disks out of a datastore: the latest backup, or that of a time', () => {
    expect(read(store, 'north/rack-2/vm/100', 'drive-scsi0', out)).toEqual({ status: 0, stderr: '' });
    expectRestored(out, CONTENT);
    expect(read(store, 'north/rack-2/vm/100', 'drive-scsi0', out, '2026-11-20T02:00:00Z').status).toBe(0);
    expectRestored(out, new Uint8Array(CONTENT.byteLength));
  });

  it('refuses what is damaged', () => {
    const bytes = archiveOf(hash);
    const damaged = join(scratch, 'damaged.vmar');
    const manifestAt = Buffer.from(bytes).readUIntLE(bytes.byteLength - 64, 6);
    for (const at of [
      9,
      100,
      Math.floor(manifestAt / 2),
      manifestAt + 8,
      manifestAt + 200,
      bytes.byteLength - 300,
      bytes.byteLength - 1,
    ]) {
      const flipped = Uint8Array.from(bytes);
      flipped[at]! ^= 0x10;
      writeFileSync(damaged, flipped);
      const { status, stderr } = read(damaged, 'drive-scsi0', out);
      expect(status, `byte ${at}: ${stderr}`).toBe(3);
      expect(stderr).toContain('Damage');
    }
    writeFileSync(damaged, bytes.subarray(0, -1));
    expect(read(damaged, 'drive-scsi0', out).status).toBe(3);
  });

  it('knows no disk and no backup that is not there', () => {
    expect(read(archive, 'other', out).status).toBe(1);
    expect(read(store, '101', 'drive-scsi0', out).status).toBe(1);
  });
});
