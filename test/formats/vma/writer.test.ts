// SPDX-License-Identifier: MIT
// What the writer gives is what the real tool gives, and comes back through the reader.

import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { VmaReader } from '#vmar/formats/vma/reader.js';
import { VmaWriter } from '#vmar/formats/vma/writer.js';
import { BugError, UsageError } from '#vmar/src/base/errors.js';
import { type Random, seededRandom } from '../../base/random.js';
import { refusalBy } from '../vmar/damage.js';
import { golden } from '../vmar/golden.js';
import { counting } from '../vmar/samples.js';
import { extract } from './extracted.js';
import { readSample } from './sample.js';

const CLUSTER = 65536;
const UUID = counting(0x40, 16);
const NO_CONFIGS = { uuid: UUID, timeSeconds: 1795252074, configs: [] };
const seed = Number(process.env.VMAR_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));

interface Disk {
  readonly id: number;
  readonly name: string;
  readonly content: Uint8Array;
}

function headerOf(disks: readonly Disk[]) {
  const devices = disks.map(({ id, name, content }) => ({ id, name, sizeBytes: content.byteLength }));
  return { ...NO_CONFIGS, configs: [{ name: 'qemu-server.conf', content: Buffer.from('name: x\n') }], devices };
}

/** Every cluster of every disk, disk by disk. */
function clustersOf(disks: readonly Disk[]): [Disk, number][] {
  return disks.flatMap((disk) =>
    Array.from({ length: Math.ceil(disk.content.byteLength / CLUSTER) }, (_, cluster): [Disk, number] => [
      disk,
      cluster,
    ]),
  );
}

/** How many clusters from a place on are neighbours, and all zeros. */
function zeroRun(order: readonly (readonly [Disk, number])[], from: number): number {
  const [disk, first] = order[from]!;
  let count = 0;
  for (; order[from + count]?.[0] === disk && order[from + count]![1] === first + count; count++) {
    const at = (first + count) * CLUSTER;
    if (disk.content.subarray(at, at + CLUSTER).some((byte) => byte !== 0)) break;
  }
  return count;
}

function write(disks: readonly Disk[], order: readonly (readonly [Disk, number])[], recycle = false): Buffer {
  const writer = new VmaWriter(headerOf(disks));
  const parts = [Buffer.from(writer.header())];
  const keep = (extents: Uint8Array[]) => {
    for (const extent of extents) {
      parts.push(Buffer.from(extent));
      if (recycle) writer.recycle(extent.fill(0xdb));
    }
  };
  for (let at = 0; at < order.length; at++) {
    const [disk, cluster] = order[at]!;
    const zeros = zeroRun(order, at);
    if (zeros > 1) {
      keep(writer.zeros(disk.id, cluster, zeros));
      at += zeros - 1;
      continue;
    }
    const bytes = Uint8Array.from(disk.content.subarray(cluster * CLUSTER, (cluster + 1) * CLUSTER));
    keep(writer.cluster(disk.id, cluster, bytes.every((byte) => byte === 0) && cluster % 2 === 0 ? 'zero' : bytes));
    // The writer keeps no reference to it.
    bytes.fill(0xdb);
  }
  keep(writer.end());
  return Buffer.concat(parts);
}

/** Zeros with some blocks, some clusters and some single bytes that are not. */
function content(random: Random, lengthBytes: number): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  for (let at = 0; at < lengthBytes; at += CLUSTER) {
    if (random.oneIn(20)) at += random.integer(1, 130) * CLUSTER;
    if (at >= lengthBytes) break;
    if (random.oneIn(3)) bytes.set(random.bytes(Math.min(CLUSTER, lengthBytes - at)), at);
    else if (random.oneIn(2)) bytes[random.integer(at, Math.min(at + CLUSTER, lengthBytes) - 1)] = 1;
  }
  return bytes;
}

function shuffled<T>(random: Random, items: readonly T[]): T[] {
  const result = [...items];
  for (let at = result.length - 1; at > 0; at--) {
    const other = random.integer(0, at);
    [result[at], result[other]] = [result[other]!, result[at]!];
  }
  return result;
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

it('writes again, from what was read, the very bytes that the real tool wrote', () => {
  const sample = readSample();
  let writer: VmaWriter | undefined;
  const parts: Uint8Array[] = [];
  let sizes = new Map<number, number>();
  const reader = new VmaReader({
    header(header) {
      sizes = new Map(header.devices.map(({ id, sizeBytes }) => [id, sizeBytes]));
      writer = new VmaWriter(header);
      parts.push(writer.header());
    },
    cluster(device, cluster, mask, blocks) {
      const bytes = new Uint8Array(Math.min(CLUSTER, sizes.get(device)! - cluster * CLUSTER));
      for (let block = 0, from = 0; block < 16; block++) {
        if ((mask & (1 << block)) === 0) continue;
        bytes.set(blocks.subarray(from, from + Math.min(4096, bytes.byteLength - block * 4096)), block * 4096);
        from += 4096;
      }
      parts.push(...writer!.cluster(device, cluster, mask === 0 ? 'zero' : bytes));
    },
  });
  reader.push(sample);
  reader.end();
  parts.push(...writer!.end());
  expect(Buffer.concat(parts).equals(sample)).toBe(true);
});

it('is as in the golden file', () => {
  const disk = new Uint8Array(2 * CLUSTER + 5000);
  disk.fill(0xa5, 4096 * 3, 4096 * 3 + 7);
  disk.fill(0x5a, 2 * CLUSTER + 4096);
  const state = new Uint8Array(4100).fill(1, 4096);
  const disks = [
    { id: 1, name: 'drive-scsi0', content: disk },
    { id: 7, name: 'vmstate', content: state },
  ];
  const bytes = write(disks, clustersOf(disks));
  expect(sha256(golden('vma', bytes))).toBe(sha256(bytes));
  const { header, contents } = extract(bytes);
  expect(header.devices.map(({ sizeBytes }) => sizeBytes)).toEqual([2 * CLUSTER + 5000, 4100]);
  expect(sha256(contents.get(1)!)).toBe(sha256(disk));
  expect(sha256(contents.get(7)!.subarray(0, 4100))).toBe(sha256(state));
});

it(`gives back disks of any length, in any order (seed ${seed})`, () => {
  const random = seededRandom(seed);
  for (let round = 0; round < 25; round++) {
    const lengths = [1, 511, 512, 513, 4096, CLUSTER - 1, CLUSTER, CLUSTER + 1, random.integer(1, 300 * CLUSTER)];
    const disks = Array.from({ length: random.integer(1, 4) }, (_, index) => {
      const lengthBytes = lengths[random.integer(0, lengths.length - 1)]!;
      return { id: 254 - index * 3, name: `drive-scsi${index}`, content: content(random, lengthBytes) };
    });
    const all = clustersOf(disks);
    const orders = [all, [...all].reverse(), shuffled(random, all), all.toSorted(([, a], [, b]) => a - b)];
    const order = orders[round % orders.length]!;
    const bytes = write(disks, order, random.oneIn(2));
    expect((bytes.byteLength - 12800) % 512).toBe(0);
    const { header, contents, summary } = extract(bytes, () => random.integer(1, 200_000));
    expect(header.devices).toEqual([...headerOf(disks).devices].reverse());
    expect(summary.extents).toBe(Math.ceil(all.length / 58));
    for (const disk of disks) expect(sha256(contents.get(disk.id)!), `round ${round}`).toBe(sha256(disk.content));
  }
});

it('rounds a length up to whole sectors for the real tool, and notes the true one', () => {
  for (const [sizeBytes, rounded] of [
    [1, 512],
    [512, 512],
    [65537, 66048],
    [2 ** 48 - 1, 2 ** 48],
  ] as const) {
    const header = { ...NO_CONFIGS, devices: [{ id: 1, name: 'd', sizeBytes }] };
    const bytes = Buffer.from(new VmaWriter(header).header());
    expect(bytes.readBigUInt64BE(4096 + 32 + 8)).toBe(BigInt(rounded));
    let read = 0;
    new VmaReader({ header: ({ devices }) => (read = devices[0]!.sizeBytes), cluster: () => {} }).push(bytes);
    expect(read).toBe(sizeBytes);
  }
});

describe('the state of a guest', () => {
  const state = (sizeBytes: number) =>
    new VmaWriter({ ...NO_CONFIGS, devices: [{ id: 1, name: 'vmstate', sizeBytes }] });

  it('is written without gaps, since the real tool leaves them out of the stream', () => {
    const writer = state(CLUSTER + 5000);
    writer.cluster(1, 0, 'zero');
    writer.cluster(1, 1, 'zero');
    const [extent] = writer.end();
    expect(extent!.byteLength).toBe(512 + CLUSTER + 8192);
    expect(Buffer.from(extent!).readUInt16BE(40)).toBe(0xffff);
    expect(Buffer.from(extent!).readUInt16BE(48)).toBe(0x3);
  });

  it('comes in its order and may be longer or shorter than the header says', () => {
    const writer = state(1);
    writer.cluster(1, 0, new Uint8Array(CLUSTER));
    writer.cluster(1, 1, new Uint8Array(10));
    expect(writer.end()).toHaveLength(1);
    expect(state(1 << 30).end()).toEqual([]);
    expect(() => state(1 << 30).cluster(1, 1, 'zero')).toThrow(BugError);
    expect(() => state(1 << 30).zeros(1, 0, 1)).toThrow(BugError);
  });
});

describe('the writer refuses', () => {
  const config = (name: string, lengthBytes = 1) => ({ name, content: new Uint8Array(lengthBytes) });
  const disk = (id: number, name: string, sizeBytes: number) => ({ id, name, sizeBytes });
  const cases: Record<string, { configs?: ReturnType<typeof config>[]; devices?: ReturnType<typeof disk>[] }> = {
    'a config of 65536 bytes': { configs: [config('a', 65536)] },
    '257 configs': { configs: Array.from({ length: 257 }, (_, index) => config(`c${index}`)) },
    'a header over 512 KiB': { configs: Array.from({ length: 8 }, (_, index) => config(`c${index}`, 65535)) },
    'a config called ..': { configs: [config('..')] },
    'a config whose name ends with a slash': { configs: [config('a/')] },
    'an empty disk': { devices: [disk(1, 'a', 0)] },
    'a disk over 256 TiB': { devices: [disk(1, 'a', 2 ** 48 + 1)] },
    'disk 0': { devices: [disk(0, 'a', 1)] },
    'disk 255': { devices: [disk(255, 'a', 1)] },
    'two disks of a name': { devices: [disk(1, 'a', 1), disk(2, 'a', 1)] },
    'two disks of a number': { devices: [disk(1, 'a', 1), disk(1, 'b', 1)] },
    'a disk with a slash': { devices: [disk(1, 'a/b', 1)] },
    'a disk with a NUL': { devices: [disk(1, 'a\0', 1)] },
  };

  it.each(Object.entries(cases))('%s', (_, { configs = [], devices = [] }) => {
    const error = refusalBy(() => new VmaWriter({ ...NO_CONFIGS, configs, devices }));
    expect(error).toBeInstanceOf(UsageError);
    expect(error.code).toBe('vma-cannot-hold');
  });

  it('a cluster twice, past its disk, of no disk, of a wrong length, and an end before all came', () => {
    const make = () => new VmaWriter({ ...NO_CONFIGS, devices: [disk(3, 'a', CLUSTER + 1)] });
    const twice = make();
    twice.cluster(3, 0, 'zero');
    expect(() => twice.cluster(3, 0, 'zero')).toThrow(BugError);
    expect(() => make().cluster(3, 2, 'zero')).toThrow(BugError);
    expect(() => make().cluster(2, 0, 'zero')).toThrow(BugError);
    expect(() => make().cluster(3, 1, new Uint8Array(2))).toThrow(BugError);
    expect(() => make().cluster(3, 0, new Uint8Array(1))).toThrow(BugError);
    expect(() => make().end()).toThrow(BugError);
    expect(() => twice.zeros(3, 0, 2)).toThrow(BugError);
    expect(() => make().zeros(3, 1, 2)).toThrow(BugError);
  });
});

it('holds what fits: 7 configs of 65535 bytes, 256 configs, 254 disks', () => {
  const configs = Array.from({ length: 7 }, (_, index) => {
    return { name: `/etc/pve/c${index}`, content: new Uint8Array(65535).fill(index) };
  });
  while (configs.length < 256) configs.push({ name: `c${configs.length}`, content: new Uint8Array(0) });
  const devices = Array.from({ length: 254 }, (_, index) => ({ id: index + 1, name: `d${index}`, sizeBytes: CLUSTER }));
  const writer = new VmaWriter({ ...NO_CONFIGS, configs, devices });
  const extents = devices.flatMap(({ id }) => writer.cluster(id, 0, 'zero'));
  const { header } = extract(Buffer.concat([writer.header(), ...extents, ...writer.end()]));
  expect(header.configs.map(({ name }) => name)).toEqual(configs.map(({ name }) => name.replace('/etc/pve/', '')));
  expect(header.configs.every(({ content }, index) => sha256(content) === sha256(configs[index]!.content))).toBe(true);
  expect(header.devices).toEqual(devices);
});
