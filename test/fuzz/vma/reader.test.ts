// SPDX-License-Identifier: MIT
// Whatever an archive claims, the reader gives clusters that keep its promises, or an error that says where. Mutations
// of a real file, with their checksums repaired, so that they reach past the checksums.

import { expect, it } from 'vitest';
import { type VmaHeader, VmaReader } from '#vmar/formats/vma/reader.js';
import { DamageError, FailedError } from '#vmar/src/base/errors.js';
import { type Random, seededRandom } from '../../base/random.js';
import { extentOffsets, sealExtent, sealHeader } from '../../formats/vma/forge.js';
import { readSample } from '../../formats/vma/sample.js';

const seed = Number(process.env.VMAR_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
/** VMAR_FUZZ_SECONDS makes it a campaign. */
const CAMPAIGN_MILLIS = Number(process.env.VMAR_FUZZ_SECONDS ?? 0) * 1000;
const ROUNDS = CAMPAIGN_MILLIS > 0 ? Number.POSITIVE_INFINITY : 1000;
const BUDGET_MILLIS = CAMPAIGN_MILLIS > 0 ? CAMPAIGN_MILLIS : 15_000;

const SAMPLE = Buffer.from(readSample());
const OFFSETS = extentOffsets(SAMPLE);
/** Where the header has something to say. */
const HEADER_FIELDS = [4, 24, 48, 52, 56, 2044, 2048, 2052, 3068, 3072, 3076, 4128, 4136, 4140, 4160, 4168, 4172];
const WORDS = [0, 1, 2, 0x7f, 0xff, 0x100, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff, 12287, 12288, 12800];

function word(random: Random): number {
  return random.oneIn(2) ? WORDS[random.integer(0, WORDS.length - 1)]! : random.integer(0, 0xffffffff);
}

function mutateHeader(bytes: Buffer, random: Random): void {
  const kind = random.integer(0, 5);
  if (kind === 0) bytes[random.integer(4, 12799)] = random.integer(0, 255);
  else if (kind === 1) bytes.writeUInt32BE(word(random), HEADER_FIELDS[random.integer(0, HEADER_FIELDS.length - 1)]!);
  else if (kind === 2) bytes[12288 + random.integer(0, 210)] = random.integer(0, 255);
  else if (kind === 3) bytes.writeUInt32BE(random.integer(0, 220), 4096 + 32 * random.integer(0, 255));
  else if (kind === 4) bytes.writeUInt32BE(word(random), 4096 + 32 * random.integer(0, 255) + 4 * random.integer(0, 7));
  // The second disk becomes a stream.
  else bytes.write('vmstate\0', 12288 + 0xbb + 2, 'latin1');
}

function mutateExtent(bytes: Buffer, at: number, random: Random): void {
  const entry = at + 40 + 8 * random.integer(0, 58);
  const kind = random.integer(0, 5);
  if (kind === 0) bytes[at + random.integer(0, 511)] = random.integer(0, 255);
  else if (kind === 1) bytes.writeUInt16BE(random.integer(0, 1000), at + 6);
  else if (kind === 2) bytes.writeUInt16BE(random.integer(0, 0xffff), entry);
  else if (kind === 3) bytes[entry + 3] = random.integer(0, 3);
  else if (kind === 4) bytes.writeUInt32BE(word(random), entry + 4);
  // Two entries change places: sound, if their masks count the same.
  else bytes.copyWithin(entry, at + 40, at + 48);
}

/** Cuts, repeats, drops and swaps whole extents, or bytes. */
function rearrange(bytes: Buffer, random: Random): Buffer {
  const starts = OFFSETS.slice(0, -1);
  const extents = starts.map((from, index) => bytes.subarray(from, OFFSETS[index + 1]));
  const [one, other] = [random.integer(0, extents.length - 1), random.integer(0, extents.length - 1)];
  switch (random.integer(0, 5)) {
    case 0:
      return bytes.subarray(0, random.integer(0, bytes.byteLength));
    case 1:
      return Buffer.concat([bytes, random.bytes(random.integer(1, 5000))]);
    case 2:
      extents.splice(one, 1);
      break;
    case 3:
      extents.splice(one, 0, extents[other]!);
      break;
    case 4:
      [extents[one], extents[other]] = [extents[other]!, extents[one]!];
      break;
    default:
      return bytes;
  }
  return Buffer.concat([bytes.subarray(0, starts[0]), ...extents]);
}

function mutant(random: Random): Buffer {
  const bytes = Buffer.from(SAMPLE);
  if (random.oneIn(2)) {
    for (let count = random.integer(1, 4); count > 0; count--) mutateHeader(bytes, random);
    const lengthBytes = bytes.readUInt32BE(56);
    if (lengthBytes >= 60 && lengthBytes <= bytes.byteLength) sealHeader(bytes);
  }
  if (random.oneIn(2)) {
    for (let count = random.integer(1, 3); count > 0; count--) {
      const at = OFFSETS[random.integer(0, OFFSETS.length - 2)]!;
      mutateExtent(bytes, at, random);
      sealExtent(bytes, at);
    }
  }
  return random.oneIn(2) ? rearrange(bytes, random) : bytes;
}

/** Reads it, checking every promise of the reader. Gives what happened, as text. */
function outcome(bytes: Uint8Array, pieceBytes: () => number): string {
  let header: VmaHeader | undefined;
  let calls = 0;
  const seen = new Set<string>();
  const reader = new VmaReader({
    header(read) {
      expect(header).toBeUndefined();
      header = read;
    },
    cluster(id, cluster, mask, blocks, offsetBytes) {
      calls++;
      const device = header?.devices.find((one) => one.id === id);
      const isStream = device?.name === 'vmstate';
      const inside = isStream ? 16 : Math.ceil((device!.sizeBytes - cluster * 65536) / 4096);
      const isSound =
        device !== undefined &&
        inside > 0 &&
        mask >>> Math.min(16, inside) === 0 &&
        blocks.byteLength === 4096 * mask.toString(2).replaceAll('0', '').length &&
        Buffer.compare(blocks, bytes.subarray(offsetBytes, offsetBytes + blocks.byteLength)) === 0 &&
        !seen.has(`${id} ${cluster}`);
      if (!isSound) throw new Error(`a cluster that cannot be: ${id} ${cluster} ${mask} ${blocks.byteLength}`);
      seen.add(`${id} ${cluster}`);
    },
  });
  try {
    for (let at = 0; at < bytes.byteLength; ) {
      const length = pieceBytes();
      reader.push(bytes.subarray(at, at + length));
      at += length;
    }
    const { devices } = reader.end();
    for (const { name, sizeBytes, clusters } of devices) {
      if (name !== 'vmstate') expect(clusters).toBe(Math.ceil(sizeBytes / 65536));
    }
    return `read: ${calls} clusters`;
  } catch (error) {
    if (!(error instanceof DamageError || error instanceof FailedError)) throw error;
    expect(error.object).toBe('archive');
    if (error instanceof DamageError) {
      expect(error.offsetBytes).toBeGreaterThanOrEqual(0);
      expect(error.offsetBytes).toBeLessThanOrEqual(bytes.byteLength);
    }
    return `${error.code} at ${error.offsetBytes} after ${calls}: ${error.message}`;
  }
}

it(
  `reads or refuses mutants, the same in pieces of any length (seed ${seed})`,
  () => {
    const random = seededRandom(seed);
    const until = Date.now() + BUDGET_MILLIS;
    const found = new Map<string, number>();
    let rounds = 0;
    for (; rounds < ROUNDS && Date.now() < until; rounds++) {
      const bytes = mutant(random);
      const whole = outcome(bytes, () => bytes.byteLength + 1);
      const most = random.integer(1, 100_000);
      expect(outcome(bytes, () => random.integer(most >>> 1, most) + 1)).toBe(whole);
      const kind = whole.split(/[ :]/, 1)[0]!;
      found.set(kind, (found.get(kind) ?? 0) + 1);
    }
    if (CAMPAIGN_MILLIS > 0) console.warn(`${rounds} mutants: ${JSON.stringify(Object.fromEntries(found))}`);
    // The mutations reach every check.
    const kinds = ['read', 'vma-cluster', 'vma-extent', 'vma-header', 'vma-incomplete', 'vma-cut', 'newer-version'];
    if (rounds >= Math.min(ROUNDS, 1000)) expect([...found.keys()]).toEqual(expect.arrayContaining(kinds));
  },
  BUDGET_MILLIS + 45_000,
);
