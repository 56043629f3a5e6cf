// SPDX-License-Identifier: MIT
// One value of each layout, with every field filled and told apart; the golden files hold their bytes.

import type { ContainerHeader } from '#vmar/formats/vmar/container-header.js';
import type { DamageListFields } from '#vmar/formats/vmar/damage-list.js';
import type { Extent } from '#vmar/formats/vmar/extent.js';
import { NO_FEATURES } from '#vmar/formats/vmar/features.js';
import type { HashName } from '#vmar/formats/vmar/hash.js';
import type { JobReport } from '#vmar/formats/vmar/job-report.js';
import type { Manifest, ManifestDisk } from '#vmar/formats/vmar/manifest.js';
import type { Sidecar } from '#vmar/formats/vmar/sidecar.js';
import type { SuperblockFields } from '#vmar/formats/vmar/superblock.js';
import {
  CHUNKS_PER_PAGE,
  encodeFooter,
  encodeTableChunk,
  encodeTableFrame,
  type Footer,
  FRAMES_PER_PAGE,
  sealTablePage,
  TABLE_CHUNK_BYTES,
  TABLE_FRAME_BYTES,
  type TableChunk,
  type TableFrame,
  tableBytes,
} from '#vmar/formats/vmar/trailer.js';
import type { VerifyHistoryFields } from '#vmar/formats/vmar/verify-history.js';

export const HASHES: readonly HashName[] = ['blake3', 'sha256'];

/** `length` bytes that count up from `first`. */
export function counting(first: number, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (first + index) & 0xff);
}

export const TIME_SECONDS = Date.UTC(2026, 10, 21, 2, 0, 0) / 1000;
export const CONTAINER_ID = counting(0x10, 16);

export function headerSample(hash: HashName): ContainerHeader {
  return {
    use: 'pack',
    features: { ...NO_FEATURES, readOnlyCompatible: 0x0102n, compatible: 0x8000000000000001n },
    containerId: CONTAINER_ID,
    storeUuid: counting(0x20, 16),
    writerId: counting(0x30, 16),
    clusterSizeBytes: 65536,
    hash,
    content: 'data',
    mapFanout: 128,
    createdSeconds: TIME_SECONDS,
  };
}

/** Three clusters of two disks in two frames. */
export function dataExtentSample(): Extent {
  return {
    content: 1,
    containerId: CONTAINER_ID,
    offsetBytes: 2 ** 32 + 256,
    sequence: 7,
    chunks: [
      { id: counting(0x40, 32), lengthBytes: 65536, kind: 0, disk: 0, where: 5 },
      { id: counting(0x60, 32), lengthBytes: 65536, kind: 0, disk: 1, where: 2 ** 33 + 6 },
      { id: counting(0x80, 32), lengthBytes: 1000, kind: 0, disk: 65535, where: 0 },
    ],
    frames: [
      { storedBytes: 5000, rawBytes: 131072, chunkCount: 2, codec: 1, seal: counting(0xa0, 16) },
      { storedBytes: 1000, rawBytes: 1000, chunkCount: 1, codec: 0, seal: counting(0xb0, 16) },
    ],
  };
}

export function mapExtentSample(): Extent {
  return {
    content: 2,
    containerId: CONTAINER_ID,
    offsetBytes: 256,
    sequence: 0,
    chunks: [
      { id: counting(0x40, 32), lengthBytes: 4096, kind: 1, disk: 0, where: 3 },
      { id: counting(0x60, 32), lengthBytes: 64, kind: 7, disk: 253, where: 0 },
    ],
    frames: [{ storedBytes: 4100, rawBytes: 4160, chunkCount: 2, codec: 1, seal: counting(0xa0, 16) }],
  };
}

export function manifestExtentSample(content: 3 | 4): Extent {
  const seal = counting(0xa0, 16);
  return {
    content,
    containerId: CONTAINER_ID,
    offsetBytes: 4096,
    sequence: 2,
    chunks: [{ id: counting(0x40, 32), lengthBytes: 700, kind: 255, disk: 65535, where: 0 }],
    frames: [{ storedBytes: 700, rawBytes: 700, chunkCount: 1, codec: 0, seal }],
  };
}

export const TABLE_CHUNKS: readonly TableChunk[] = [
  { id: counting(0x40, 32), frame: 0, offsetBytes: 0, lengthBytes: 65536, kind: 0 },
  { id: counting(0x60, 32), frame: 0, offsetBytes: 65536, lengthBytes: 1000, kind: 0 },
  { id: counting(0x80, 32), frame: 1, offsetBytes: 0, lengthBytes: 4096, kind: 2 },
];

export const TABLE_FRAMES: readonly TableFrame[] = [
  { offsetBytes: 480, storedBytes: 5000, rawBytes: 66536, chunkCount: 2, codec: 1, seal: counting(0xa0, 16) },
  { offsetBytes: 5656, storedBytes: 4096, rawBytes: 4096, chunkCount: 1, codec: 0, seal: counting(0xb0, 16) },
  { offsetBytes: 9928, storedBytes: 700, rawBytes: 700, chunkCount: 1, codec: 0, seal: counting(0xc0, 16) },
];

/** Data, maps and a manifest: an extent each. */
export const FOOTER: Footer = footerOf(TABLE_CHUNKS, TABLE_FRAMES, {
  chunkTableOffset: 10628,
  manifestExtentOffset: 9752,
  extentCount: 3,
});

/** A footer that fits the tables. */
export function footerOf(
  chunks: readonly TableChunk[],
  frames: readonly TableFrame[],
  rest: Pick<Footer, 'chunkTableOffset' | 'manifestExtentOffset' | 'extentCount'>,
): Footer {
  const frameTableOffset = rest.chunkTableOffset + tableBytes(chunks.length, TABLE_CHUNK_BYTES, CHUNKS_PER_PAGE);
  return {
    ...rest,
    containerId: CONTAINER_ID,
    chunkCount: chunks.length,
    frameCount: frames.length,
    frameTableOffset,
    fileBytes: frameTableOffset + tableBytes(frames.length, TABLE_FRAME_BYTES, FRAMES_PER_PAGE) + 128,
    rawBytes: chunks.reduce((sum, chunk) => sum + chunk.lengthBytes, 0),
  };
}

/** Both tables, page by page with their seals, and the footer. */
export function encodeTrailer(
  chunks: readonly TableChunk[],
  frames: readonly TableFrame[],
  footer: Footer,
  hash: HashName,
): Uint8Array {
  const parts: Uint8Array[] = [];
  let offset = footer.chunkTableOffset;
  const seal = (entries: Uint8Array): void => {
    parts.push(entries, sealTablePage(hash, footer.containerId, offset, entries));
    offset += entries.byteLength + 16;
  };
  for (let at = 0; at < chunks.length; at += CHUNKS_PER_PAGE) {
    const page = chunks.slice(at, at + CHUNKS_PER_PAGE);
    const entries = new Uint8Array(page.length * TABLE_CHUNK_BYTES).fill(0xee);
    for (const [index, chunk] of page.entries()) encodeTableChunk(chunk, entries, index * TABLE_CHUNK_BYTES);
    seal(entries);
  }
  for (let at = 0; at < frames.length; at += FRAMES_PER_PAGE) {
    const page = frames.slice(at, at + FRAMES_PER_PAGE);
    const entries = new Uint8Array(page.length * TABLE_FRAME_BYTES).fill(0xee);
    for (const [index, frame] of page.entries()) encodeTableFrame(frame, entries, index * TABLE_FRAME_BYTES);
    seal(entries);
  }
  return Buffer.concat([...parts, encodeFooter(footer, hash)]);
}

export function superblockSample(hash: HashName): SuperblockFields {
  return {
    storeUuid: counting(0x20, 16),
    clusterSizeBytes: 131072,
    hash,
    mapFanout: 256,
    createdSeconds: TIME_SECONDS,
    createdBy: 'vmar 0.1.0',
  };
}

const DISK: ManifestDisk = {
  name: 'drive-scsi0',
  kind: 'disk',
  sizeBytes: 34359738368,
  clusterSizeBytes: 65536,
  mapRoot: counting(0x40, 32),
  bitmapName: 'vmar-1',
  fullReason: 'the bitmap is new',
  readBytes: 4294967296,
  zeroBytes: 30064771072,
  unchangedBytes: 65536,
  newBytes: 131072,
  storedBytes: 54321,
  forceShared: true,
};

export function manifestSample(hash: HashName): Manifest {
  const none = { bitmapName: '', fullReason: '', forceShared: false };
  return {
    namespace: 'north/rack-2',
    guestType: 'vm',
    guestId: '100',
    guestName: 'büro',
    guestUuid: counting(0x50, 16),
    timeSeconds: TIME_SECONDS,
    sequence: 3,
    previousDigest: counting(0x60, 32),
    source: 'qemu',
    sourceUuid: counting(0x70, 16),
    disks: [
      DISK,
      { ...DISK, ...none, name: 'vmstate', kind: 'vmstate', sizeBytes: 1234567, mapRoot: counting(0x80, 32) },
      { ...DISK, ...none, name: 'efidisk0', kind: 'blob', sizeBytes: 0, mapRoot: new Uint8Array(32) },
    ],
    configs: [
      { name: '100.conf', content: Uint8Array.from(Buffer.from('cores: 4\n')) },
      { name: 'leer ø.txt', content: new Uint8Array(0) },
    ],
    consistency: 'agent-frozen',
    packs: ['000102030405060708090a0b0c0d0e0f', '101112131415161718191a1b1c1d1e1f'],
    writerId: counting(0x30, 16),
    writer: 'vmar 0.1.0',
    storeUuid: counting(0x20, 16),
    hash,
    mapFanout: 128,
    startedMillis: TIME_SECONDS * 1000 + 250,
    finishedMillis: TIME_SECONDS * 1000 + 61_500,
  };
}

export function sidecarSample(): Sidecar {
  return {
    manifestDigest: counting(0x60, 32),
    labels: new Map([
      ['Site', 'north'],
      ['ticket', '4711'],
      ['ä', ''],
    ]),
    notes: 'before the upgrade\n',
    isProtected: true,
  };
}

export function historySample(): VerifyHistoryFields {
  return {
    backups: [
      { backup: 'north/vm/100/2026-11-21T02:00:00Z', manifestDigest: counting(0x60, 32), followedMillis: 0 },
      { backup: 'vm/100/2026-11-21T02:00:00Z', manifestDigest: counting(0x61, 32), followedMillis: 1_795_226_400_250 },
      { backup: 'vm/büro/2026-11-21T02:00:00Z', manifestDigest: counting(0x62, 32), followedMillis: 1 },
    ],
    packs: [
      { packId: counting(0, 16), readMillis: 1_795_226_400_250, neededBy: [{ first: 0, count: 3 }] },
      {
        ...{ packId: counting(1, 16), readMillis: 0 },
        neededBy: [
          { first: 0, count: 1 },
          { first: 2, count: 1 },
        ],
      },
      { packId: counting(2, 16), readMillis: 5, neededBy: [] },
    ],
  };
}

export function damageSample(): DamageListFields {
  const none = { isWhole: false, isGone: false, isMet: false, frames: [], chunks: new Uint8Array(0), touches: [] };
  const times = { sinceMillis: 1_795_226_400_250, seenMillis: 1_795_312_800_000 };
  return {
    touched: ['vm/100/2026-11-21T02:00:00Z:scsi0', 'vm/100/2026-11-22T02:00:00Z', 'vm/100/2026-11-22T02:00:00Z:scsi0'],
    packs: [
      {
        ...none,
        ...times,
        packId: new Uint8Array(16),
        places: 1,
        problem: 'nowhere',
        touches: [{ first: 1, count: 2 }],
      },
      {
        ...{ ...none, ...times, packId: counting(1, 16), places: 3, problem: 'a frame does not match its seal' },
        ...{ frames: [3, 4, 70000], chunks: Uint8Array.from([...counting(2, 32), ...counting(3, 32)]) },
        touches: [
          { first: 0, count: 1 },
          { first: 2, count: 1 },
        ],
      },
      {
        ...none,
        ...times,
        packId: counting(2, 16),
        places: 1,
        problem: 'gone',
        isWhole: true,
        isGone: true,
        isMet: true,
      },
    ],
  };
}

export function jobReportSample(): JobReport {
  const started = TIME_SECONDS * 1000 + 1;
  const none = { sizeBytes: 0, readBytes: 0, zeroBytes: 0, unchangedBytes: 0, newBytes: 0, storedBytes: 0 };
  return {
    ...{ job: 'nightly', kind: 'backup', host: 'pve-1', outcome: 'failed', errorCode: 'no-room', error: 'it is full' },
    ...{ startedMillis: started, finishedMillis: started + 90_000, writer: 'vmar 0.1.0' },
    guests: [
      {
        ...{
          guest: '100',
          outcome: 'ok',
          backup: 'vm/100/2026-11-21T02:00:00Z',
          errorCode: '',
          error: '',
          attempts: 1,
        },
        ...{ startedMillis: started + 10, finishedMillis: started + 2000 },
        ...{ sizeBytes: 34359738368, readBytes: 4294967296, zeroBytes: 65537, unchangedBytes: 131072 },
        ...{ newBytes: 262144, storedBytes: 54321 },
      },
      {
        ...{ guest: 'north/vm/web', outcome: 'busy', backup: '', errorCode: 'guest-busy', error: 'büsy', attempts: 3 },
        ...{ startedMillis: started + 20, finishedMillis: started + 3000, ...none },
      },
    ],
    steps: [
      {
        ...{ step: 'gc', outcome: 'interrupted', errorCode: 'interrupted', error: 'stopped', attempts: 1 },
        ...{ startedMillis: started + 4000, finishedMillis: started + 5000, summary: '3 packs' },
      },
    ],
    warnings: ['the webhook answered 500'],
  };
}
