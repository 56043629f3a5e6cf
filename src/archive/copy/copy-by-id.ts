// SPDX-License-Identifier: MIT
// One backup from one datastore to another of the same cluster size, hash and fan-out: chunks keep their ids, so that
// only those go that the other side lacks.

import type { ChunkEntry } from '../../../formats/vmar/extent.js';
import { VmarError } from '../../base/errors.js';
import type { SinkMachine } from '../archive-sink.js';
import { ChunkReader } from '../chunk-reader.js';
import { countedOutput } from '../counted-output.js';
import type { Relative } from '../datastore-vault.js';
import { FrameBuilder, type FrameOutput } from '../frame-builder.js';
import type { OpenBackup } from '../open-backup.js';
import type { ManifestDraft, Vault } from '../vault.js';
import { FrameCarrier } from './frame-carrier.js';
import { type FrameWant, FrameWants } from './frame-wants.js';
import { type DiskTally, LackingWalk } from './lacking.js';

const MAP_FRAME_BYTES = 128 * 1024;

export interface CopyByIdOptions {
  readonly machine: SinkMachine;
  /** The guest's latest backup at the destination comes first. */
  readonly relatives: readonly Relative[];
  readonly signal: AbortSignal | undefined;
  readonly onProgress: (bytes: number) => void;
  /** The manifest, by what came of the disks. */
  readonly draft: (disks: readonly CopiedDisk[]) => ManifestDraft;
}

export interface CopiedDisk extends DiskTally {
  newBytes: number;
  storedBytes: number;
}

/** As a manifest has them. */
export function countsOf({ zeroBytes, unchangedBytes, newBytes, storedBytes }: CopiedDisk): CopiedDisk {
  return { zeroBytes, unchangedBytes, newBytes, storedBytes: Math.round(storedBytes) };
}

export interface Copied {
  readonly backup: string;
  readonly disks: readonly CopiedDisk[];
  /** Frames that went as they were stored, and those of which parts were joined to new ones. */
  readonly frames: { readonly whole: number; readonly parts: number };
}

/**
 * Fills the vault, which was begun with the backup, and commits it.
 * @throws DamageError if a chunk cannot be had at the source. The vault is the caller's to abort then.
 */
export async function copyById(backup: OpenBackup, vault: Vault, options: CopyByIdOptions): Promise<Copied> {
  const copy = new CopyById(backup, vault, options);
  const endSearch = (): void => backup.source.endSearch?.();
  options.signal?.addEventListener('abort', endSearch, { once: true });
  try {
    return await copy.run();
  } catch (error) {
    await copy.abandon();
    throw error;
  } finally {
    // The signal may be that of many copies, one after another.
    options.signal?.removeEventListener('abort', endSearch);
  }
}

class CopyById {
  readonly #backup: OpenBackup;
  readonly #vault: Vault;
  readonly #options: CopyByIdOptions;
  readonly #reader: ChunkReader;
  readonly #wants = new FrameWants();
  readonly #carrier: FrameCarrier;
  readonly #data: FrameBuilder;
  readonly #maps: FrameBuilder;
  readonly #disks: CopiedDisk[];

  constructor(backup: OpenBackup, vault: Vault, options: CopyByIdOptions) {
    this.#backup = backup;
    this.#vault = vault;
    this.#options = options;
    this.#reader = new ChunkReader(backup.source);
    this.#disks = backup.manifest.disks.map(() => {
      return { zeroBytes: 0, unchangedBytes: 0, newBytes: 0, storedBytes: 0 };
    });
    const { machine } = options;
    const { executor, gatherSlots, frameSlots, dataFrameBytes } = machine;
    const shared = { executor, gatherSlots, frameSlots };
    const output = oneAtATime(countedOutput(vault.dataFrames, (index) => this.#disks[index]));
    this.#data = new FrameBuilder({ ...shared, output, frameBytes: dataFrameBytes });
    this.#maps = new FrameBuilder({ ...shared, output: vault.mapFrames, frameBytes: MAP_FRAME_BYTES });
    const nameOf = (chunk: ChunkEntry) => placeOf(backup, chunk);
    this.#carrier = new FrameCarrier({ machine, reader: this.#reader, builder: this.#data, output, nameOf });
  }

  async run(): Promise<Copied> {
    const { manifest } = this.#backup;
    const { relatives, onProgress, signal } = this.#options;
    const remembered = new Set<string>();
    for (const [index, disk] of manifest.disks.entries()) {
      const walk = new LackingWalk(disk, index, remembered, {
        ...{ reader: this.#reader, fanout: manifest.mapFanout, relatives, onProgress, signal },
        has: (id) => this.#vault.has(id),
        onChunk: async (entry) => await this.#want(entry),
        onPage: async (bytes, entry) => await this.#takePage(bytes, entry),
      });
      await walk.run();
      Object.assign(this.#disks[index]!, walk.tally);
    }
    for (const want of this.#wants.rest()) await this.#carry(want);
    await this.#carrier.finish();
    await this.#data.finish();
    await this.#maps.finish();
    signal?.throwIfAborted();
    const backup = await this.#vault.commit(this.#options.draft(this.#disks));
    return { backup, disks: this.#disks, frames: this.#carrier.counts };
  }

  async abandon(): Promise<void> {
    await this.#carrier.abandon();
    await this.#data.abandon();
    await this.#maps.abandon();
  }

  async #want(entry: ChunkEntry): Promise<void> {
    this.#vault.note(entry.id);
    this.#disks[entry.disk]!.newBytes += entry.lengthBytes;
    const due = this.#placed(entry);
    if (due === undefined) await this.#carrier.addStray(entry);
    else for (const want of due) await this.#carry(want);
  }

  /** undefined where it is nowhere by the index, or in a frame that is in no table. */
  #placed(entry: ChunkEntry): FrameWant[] | undefined {
    try {
      const place = this.#backup.source.locate(entry.id);
      return place?.lengthBytes === entry.lengthBytes ? this.#wants.add(place, entry) : undefined;
    } catch (error) {
      if (error instanceof VmarError) return undefined;
      throw error;
    }
  }

  async #carry(want: FrameWant): Promise<void> {
    this.#options.signal?.throwIfAborted();
    await this.#carrier.add(want);
  }

  async #takePage(bytes: Uint8Array, entry: ChunkEntry): Promise<void> {
    this.#vault.note(entry.id);
    await this.#maps.addCopy(bytes, entry);
  }
}

/** Frames that are carried and frames that are built come side by side. */
function oneAtATime(output: FrameOutput): FrameOutput {
  let last: Promise<void> = Promise.resolve();
  return {
    add: async (part, release) => {
      const mine = last.then(async () => await output.add(part, release));
      last = mine.catch(() => undefined);
      await mine;
    },
  };
}

/** "disk scsi0 at byte 65536" */
function placeOf({ manifest }: OpenBackup, { disk, where }: ChunkEntry): string {
  const { name, clusterSizeBytes } = manifest.disks[disk]!;
  return `disk ${name} at byte ${where * clusterSizeBytes}`;
}
