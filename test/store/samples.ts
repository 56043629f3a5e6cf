// SPDX-License-Identifier: MIT
// Small stores, manifests and tables to test with.

import { createHash } from 'node:crypto';
import { encodeManifest, type Manifest } from '#vmar/formats/vmar/manifest.js';
import { TABLE_CHUNK_BYTES } from '#vmar/formats/vmar/trailer.js';
import type { Log } from '#vmar/src/base/log.js';
import type { BackupRef, GuestRef } from '#vmar/src/store/backup-id.js';
import type { StoreFs } from '#vmar/src/store/fs.js';
import { type InitOptions, initDatastore } from '#vmar/src/store/init.js';
import { RealFs } from '#vmar/src/store/real-fs.js';
import type { SessionPlace } from '#vmar/src/store/session.js';

/** 2026-11-21T02:00:00Z */
export const NIGHT = 1795226400;

export const INIT: InitOptions = {
  clusterSizeBytes: 65536,
  hash: 'blake3',
  mapFanout: 128,
  timeSeconds: NIGHT,
  createdBy: 'vmar test',
};

/** A log that keeps what it is told. */
export class KeptLog implements Log {
  readonly infos: string[] = [];
  readonly warnings: string[] = [];
  info(message: string): void {
    this.infos.push(message);
  }
  warn(message: string): void {
    this.warnings.push(message);
  }
  debug(): void {}
}

export function place(root: string, fs: StoreFs = new RealFs(), log: Log = new KeptLog()): SessionPlace {
  return { root, fs, log };
}

export async function newStore(root: string): Promise<string> {
  await initDatastore(root, INIT);
  return root;
}

export function guest(guestId = '100', namespace = ''): GuestRef {
  return { namespace, guestType: 'vm', guestId };
}

export function backup(timeSeconds = NIGHT, guestId = '100', namespace = ''): BackupRef {
  return { ...guest(guestId, namespace), timeSeconds };
}

export function manifestOf(ref: BackupRef, change: Partial<Manifest> = {}): Manifest {
  const none = new Uint8Array(0);
  return {
    ...ref,
    guestName: 'web',
    guestUuid: none,
    sequence: 1,
    previousDigest: none,
    source: 'image',
    sourceUuid: none,
    disks: [],
    configs: [{ name: 'vm.conf', content: Buffer.from('memory: 512\n') }],
    consistency: 'offline',
    packs: [],
    writerId: Buffer.alloc(16, 1),
    writer: 'vmar test',
    storeUuid: Buffer.alloc(16, 2),
    hash: 'blake3',
    mapFanout: 128,
    startedMillis: 0,
    finishedMillis: 0,
    ...change,
  };
}

export function manifestBytes(ref: BackupRef, change: Partial<Manifest> = {}): Uint8Array {
  return encodeManifest(manifestOf(ref, change));
}

export interface SampleTable {
  readonly packId: string;
  readonly footerSeal: Uint8Array;
  /** Sorted. */
  readonly ids: readonly Uint8Array[];
  /** The chunk table's entries, end to end. Entry i is in frame i, at offset 2i, and is 3i+1 long. */
  readonly entries: Uint8Array;
}

/** The table of a pack that does not exist; the same for the same name. */
export function sampleTable(name: string, count: number): SampleTable {
  const ids = Array.from({ length: count }, (_, i) => createHash('sha256').update(`${name} ${i}`).digest());
  ids.sort(Buffer.compare);
  const entries = Buffer.alloc(count * TABLE_CHUNK_BYTES);
  for (const [i, id] of ids.entries()) {
    const at = i * TABLE_CHUNK_BYTES;
    entries.set(id, at);
    entries.writeUInt32LE(i, at + 32);
    entries.writeUInt32LE(2 * i, at + 36);
    entries.writeUInt32LE(3 * i + 1, at + 40);
  }
  return { packId: sampleId(name), footerSeal: Buffer.alloc(16, 3), ids, entries };
}

export function sampleId(name: string): string {
  return createHash('sha256').update(name).digest('hex').slice(0, 32);
}
