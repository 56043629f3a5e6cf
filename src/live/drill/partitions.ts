// SPDX-License-Identifier: MIT
// The partitions of a disk, by its MBR (with logical ones) or its GPT. What a table says is not trusted: what lies outside
// of the disk, or overlaps nothing real, is a problem to be told.

import { crc32 } from 'node:zlib';
import type { BlockDevice } from '../../block/device.js';

export interface Partition {
  /** As Linux counts them, from 1; 0: the whole disk. */
  readonly number: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

export interface PartitionTable {
  readonly kind: 'gpt' | 'mbr' | 'none';
  readonly partitions: readonly Partition[];
  /** What is wrong with it. */
  readonly problem?: string;
}

const SECTOR = 512;
/** Sectors of disks that guests see; a GPT lies in the second. */
const GPT_SECTORS = [512, 4096] as const;
const MOST_PARTITIONS = 128;
const PROTECTIVE = 0xee;
const EXTENDED: ReadonlySet<number> = new Set([0x05, 0x0f, 0x85]);

export async function readPartitions(disk: BlockDevice): Promise<PartitionTable> {
  const first = await readUpTo(disk, 0, 4096 + 512);
  for (const sector of GPT_SECTORS) {
    if (first.toString('latin1', sector, sector + 8) === 'EFI PART') return await readGpt(disk, sector, sector);
  }
  const entries = mbrEntries(first);
  if (entries.some(({ type }) => type === PROTECTIVE)) return await readLastGpt(disk);
  return entries.length === 0 ? { kind: 'none', partitions: [] } : await readMbr(disk, entries);
}

interface MbrEntry {
  readonly index: number;
  readonly type: number;
  readonly start: number;
  readonly count: number;
}

/** None where this is no MBR: a boot sector of a file system ends as one does, too. */
function mbrEntries(sector: Buffer): MbrEntry[] {
  if (sector.byteLength < SECTOR || sector.readUInt16LE(510) !== 0xaa55) return [];
  const entries: MbrEntry[] = [];
  for (let index = 0; index < 4; index++) {
    const at = 446 + 16 * index;
    const [status, type] = [sector[at]!, sector[at + 4]!];
    if (status !== 0 && status !== 0x80) return [];
    const [start, count] = [sector.readUInt32LE(at + 8), sector.readUInt32LE(at + 12)];
    if (type !== 0 && count > 0) entries.push({ index, type, start, count });
  }
  return entries;
}

async function readMbr(disk: BlockDevice, entries: readonly MbrEntry[]): Promise<PartitionTable> {
  const partitions: Partition[] = [];
  let problem: string | undefined;
  for (const entry of entries) {
    const { index, start, count } = entry;
    const wrong = EXTENDED.has(entry.type)
      ? await addLogical(disk, start, partitions)
      : add(disk, partitions, index + 1, start * SECTOR, count * SECTOR);
    problem ??= wrong;
  }
  return { kind: 'mbr', partitions, ...(problem === undefined ? {} : { problem }) };
}

/** The chain of logical partitions; each link names the next. */
async function addLogical(disk: BlockDevice, extended: number, partitions: Partition[]): Promise<string | undefined> {
  const seen = new Set<number>();
  let number = 5;
  for (let link = extended; ; ) {
    if (seen.has(link) || seen.size >= MOST_PARTITIONS) return 'the chain of logical partitions does not end';
    seen.add(link);
    if ((link + 1) * SECTOR > disk.lengthBytes) return 'the chain of logical partitions leads past the end of the disk';
    const entries = mbrEntries(await readUpTo(disk, link * SECTOR, SECTOR));
    const own = entries.find(({ type }) => !EXTENDED.has(type));
    const next = entries.find(({ type }) => EXTENDED.has(type));
    if (own !== undefined) {
      const problem = add(disk, partitions, number++, (link + own.start) * SECTOR, own.count * SECTOR);
      if (problem !== undefined) return problem;
    }
    if (next === undefined) return undefined;
    link = extended + next.start;
  }
}

/** Its first copy is gone: the one at the end of the disk has the same. */
async function readLastGpt(disk: BlockDevice): Promise<PartitionTable> {
  for (const sector of GPT_SECTORS) {
    const at = disk.lengthBytes - (disk.lengthBytes % sector) - sector;
    if (at < 0 || (await readUpTo(disk, at, 8)).toString('latin1') !== 'EFI PART') continue;
    const table = await readGpt(disk, at, sector);
    return { ...table, problem: table.problem ?? 'its first copy is gone' };
  }
  return { kind: 'gpt', partitions: [], problem: 'both of its copies are gone' };
}

async function readGpt(disk: BlockDevice, at: number, sector: number): Promise<PartitionTable> {
  const header = await readUpTo(disk, at, SECTOR);
  const broken = (problem: string): PartitionTable => ({ kind: 'gpt', partitions: [], problem });
  const headerBytes = header.readUInt32LE(12);
  if (headerBytes < 92 || headerBytes > SECTOR) return broken('its header has an impossible length');
  const blank = Buffer.from(header.subarray(0, headerBytes));
  blank.writeUInt32LE(0, 16);
  if (crc32(blank) !== header.readUInt32LE(16)) return broken('the checksum of its header is wrong');
  const [count, entryBytes] = [header.readUInt32LE(80), header.readUInt32LE(84)];
  const entriesAt = Number(header.readBigUInt64LE(72)) * sector;
  if (count > 4 * MOST_PARTITIONS || entryBytes < 128 || entryBytes > 4096) return broken('it has impossible entries');
  const entries = await readUpTo(disk, entriesAt, count * entryBytes);
  if (entries.byteLength < count * entryBytes) return broken('its entries lie past the end of the disk');
  if (crc32(entries) !== header.readUInt32LE(88)) return broken('the checksum of its entries is wrong');
  const partitions: Partition[] = [];
  let problem: string | undefined;
  for (let index = 0; index < count; index++) {
    const entry = entries.subarray(index * entryBytes, index * entryBytes + 128);
    if (entry.subarray(0, 16).every((byte) => byte === 0)) continue;
    const from = Number(entry.readBigUInt64LE(32)) * sector;
    const to = (Number(entry.readBigUInt64LE(40)) + 1) * sector;
    const wrong = add(disk, partitions, index + 1, from, to - from);
    problem ??= wrong;
  }
  return { kind: 'gpt', partitions, ...(problem === undefined ? {} : { problem }) };
}

/** What is wrong with it, if it cannot be. */
function add(
  disk: BlockDevice,
  partitions: Partition[],
  number: number,
  offsetBytes: number,
  lengthBytes: number,
): string | undefined {
  if (!(offsetBytes > 0 && lengthBytes > 0 && offsetBytes + lengthBytes <= disk.lengthBytes)) {
    return `partition ${number} does not lie within the disk`;
  }
  partitions.push({ number, offsetBytes, lengthBytes });
  return undefined;
}

/** Fewer bytes where the device ends. */
export async function readUpTo(device: BlockDevice, offsetBytes: number, lengthBytes: number): Promise<Buffer> {
  const isWithin = Number.isSafeInteger(offsetBytes) && offsetBytes >= 0 && offsetBytes < device.lengthBytes;
  const bytes = Buffer.alloc(isWithin ? Math.min(lengthBytes, device.lengthBytes - offsetBytes) : 0);
  if (bytes.byteLength > 0) await device.read(offsetBytes, bytes);
  return bytes;
}
