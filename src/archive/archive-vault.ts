// SPDX-License-Identifier: MIT
// The vault that is one self-contained archive: a container with its manifest inside, to a file or a stream.
//
// Guarantee: the file has its final name only once it is whole and durable; a stream ends with a footer or not at all.

import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NO_FEATURES } from '../../formats/vmar/features.js';
import type { HashName } from '../../formats/vmar/hash.js';
import { DEFAULT_MAP_FANOUT } from '../../formats/vmar/limits.js';
import { encodeManifest, type Manifest, type ManifestDisk } from '../../formats/vmar/manifest.js';
import { ZERO_ID } from '../../formats/vmar/map.js';
import { TABLE_CHUNK_BYTES } from '../../formats/vmar/trailer.js';
import { compareBytes } from '../base/bytes.js';
import type { BackupDescription } from '../plugin-api.js';
import { ChunkIndex } from '../store/chunk-index.js';
import { ContainerWriter, type FramePart } from '../store/container-writer.js';
import { ExtentStream } from '../store/extent-stream.js';
import type { StoreFs } from '../store/fs.js';
import { RealFs } from '../store/real-fs.js';
import type { FrameOutput } from './frame-builder.js';
import { manifestPart } from './manifest-part.js';
import { type ArchiveTarget, type OutputPlace, openOutputPlace, refuseExisting } from './output-place.js';
import type { ManifestDraft, Vault, VaultBegin } from './vault.js';
import { WRITER_NAME } from './writer-name.js';

export type { ArchiveTarget } from './output-place.js';

export interface ArchiveVaultOptions {
  readonly clusterSizeBytes: number;
  readonly hash: HashName;
  readonly fanout?: number;
  /** For what does not fit in memory; the system's by default. */
  readonly scratchParent?: string;
  readonly fs?: StoreFs;
}

/** @throws FailedError if the file exists and is not to be overwritten, or cannot be made. */
export async function openArchiveVault(target: ArchiveTarget, options: ArchiveVaultOptions): Promise<Vault> {
  const fs = options.fs ?? new RealFs();
  refuseExisting(target);
  const scratch = mkdtempSync(join(options.scratchParent ?? tmpdir(), 'vmar-'));
  let place: OutputPlace | undefined;
  try {
    place = await openOutputPlace(target, fs);
    const index = await ChunkIndex.openTemporary(scratch);
    return new ArchiveVault(place, index, scratch, fs, options);
  } catch (error) {
    await place?.file.close().catch(() => undefined);
    await place?.remove();
    rmSync(scratch, { recursive: true, force: true });
    throw error;
  }
}

/** Chunks noted before they go from memory into the temporary index. */
const NOTED_CHUNKS = 65536;

class ArchiveVault implements Vault {
  readonly hash: HashName;
  readonly clusterSizeBytes: number;
  readonly fanout: number;
  readonly scratchDirectory: string;
  readonly dataFrames: FrameOutput;
  readonly mapFrames: FrameOutput;
  readonly #place: OutputPlace;
  readonly #index: ChunkIndex;
  readonly #extents: ExtentStream;
  readonly #containerId = randomBytes(16);
  #noted = new Map<string, Uint8Array>();
  #indexing: ReadonlyMap<string, Uint8Array> | undefined;
  #indexed: Promise<void> = Promise.resolve();
  /** Data and map frames share one container: one append at a time. */
  #turn: Promise<void> = Promise.resolve();

  constructor(place: OutputPlace, index: ChunkIndex, scratch: string, fs: StoreFs, options: ArchiveVaultOptions) {
    this.#place = place;
    this.#index = index;
    this.hash = options.hash;
    this.fanout = options.fanout ?? DEFAULT_MAP_FANOUT;
    this.clusterSizeBytes = options.clusterSizeBytes;
    this.scratchDirectory = scratch;
    const header = {
      use: 'archive' as const,
      features: NO_FEATURES,
      containerId: this.#containerId,
      storeUuid: new Uint8Array(16),
      writerId: new Uint8Array(16),
      clusterSizeBytes: options.clusterSizeBytes,
      hash: options.hash,
      content: 'both' as const,
      mapFanout: this.fanout,
      createdSeconds: Math.floor(Date.now() / 1000),
    };
    this.#extents = new ExtentStream(new ContainerWriter(place.file, header, { fs, directory: scratch }));
    this.dataFrames = { add: async (part, release) => await this.#add(1, part, release) };
    this.mapFrames = { add: async (part, release) => await this.#add(2, part, release) };
  }

  async #add(content: 1 | 2, part: FramePart, release: () => void): Promise<void> {
    const mine = this.#turn.then(async () => await this.#extents.add(content, part, release));
    this.#turn = mine.catch(() => undefined);
    await mine;
  }

  async begin(backup: BackupDescription): Promise<VaultBegin> {
    await this.#extents.container.begin();
    const prologue = encodeManifest(this.#prologue(backup));
    await this.#extents.addWhole(4, manifestPart(prologue, this.hash));
    return { timeSeconds: backup.timeSeconds, parents: backup.disks.map(() => undefined) };
  }

  /** What is known before the first cluster: enough to salvage the disks of an archive that was cut off. */
  #prologue(backup: BackupDescription): Manifest {
    const counts = { readBytes: 0, zeroBytes: 0, unchangedBytes: 0, newBytes: 0, storedBytes: 0 };
    const disks = backup.disks.map(
      (disk): ManifestDisk => ({
        ...{
          name: disk.name,
          kind: disk.kind,
          sizeBytes: disk.sizeBytes ?? 0,
          clusterSizeBytes: this.clusterSizeBytes,
        },
        ...{ mapRoot: ZERO_ID, bitmapName: '', fullReason: '', forceShared: disk.forceShared ?? false },
        ...counts,
      }),
    );
    const { namespace, guestId, timeSeconds, source, consistency, configs } = backup;
    const guest = { namespace, guestType: 'vm' as const, guestId, guestName: backup.guestName ?? '' };
    const none = new Uint8Array(0);
    return this.#complete({
      ...{ ...guest, guestUuid: backup.guestUuid ?? none, timeSeconds, source, sourceUuid: backup.sourceUuid ?? none },
      ...{ disks, configs, consistency, hash: this.hash, mapFanout: this.fanout, startedMillis: Date.now() },
    });
  }

  #complete(draft: ManifestDraft): Manifest {
    const none = new Uint8Array(0);
    const ours = { packs: [], writerId: new Uint8Array(16), writer: WRITER_NAME, storeUuid: none };
    return { ...draft, ...ours, sequence: 1, previousDigest: none, finishedMillis: Date.now() };
  }

  has(id: Uint8Array): boolean {
    const key = keyOf(id);
    return this.#noted.has(key) || this.#indexing?.has(key) === true || this.#index.get(id) !== undefined;
  }

  isLost(): boolean {
    return false;
  }

  note(id: Uint8Array): void {
    this.#noted.set(keyOf(id), id);
    if (this.#noted.size >= NOTED_CHUNKS && this.#indexing === undefined) this.#startIndexing();
  }

  /** Moves what was noted from memory into the temporary index; until it is there, memory answers for it. */
  #startIndexing(): void {
    const noted = this.#noted;
    this.#indexing = noted;
    this.#noted = new Map();
    const ids = [...noted.values()].sort(compareBytes);
    const entries = Buffer.alloc(ids.length * TABLE_CHUNK_BYTES);
    for (const [i, id] of ids.entries()) entries.set(id, i * TABLE_CHUNK_BYTES);
    this.#indexed = this.#index
      .addPack(randomBytes(16).toString('hex'), new Uint8Array(16), [entries])
      .then(() => {
        this.#indexing = undefined;
      })
      // Not indexed, they are forgotten: what comes again is stored again, which is larger and never wrong.
      .catch(() => {
        this.#indexing = undefined;
      });
  }

  /** An archive has no parent. */
  noteParent(): void {}

  async commit(draft: ManifestDraft): Promise<string> {
    await this.#turn;
    await this.#extents.addWhole(3, manifestPart(encodeManifest(this.#complete(draft)), this.hash));
    await this.#extents.container.finish();
    await this.#place.publish();
    await this.#cleanUp();
    return this.#place.name;
  }

  async abort(): Promise<void> {
    await this.#turn;
    await this.#extents.abandon().catch(() => undefined);
    await this.#place.remove();
    await this.#cleanUp();
  }

  async #cleanUp(): Promise<void> {
    await this.#indexed;
    await this.#index.close();
    rmSync(this.scratchDirectory, { recursive: true, force: true });
  }
}

function keyOf(id: Uint8Array): string {
  return Buffer.from(id.buffer, id.byteOffset, 32).toString('latin1', 0, 32);
}
