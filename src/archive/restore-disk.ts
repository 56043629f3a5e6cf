// SPDX-License-Identifier: MIT
// Restores one disk of a backup into a file or block device. Data goes from the container to the target inside the
// workers; this thread only walks the map.
//
// Guarantees: what is written is what was backed up, every chunk checked against its id before it is written; a range
// that cannot be had is never filled with anything but zeros, and is always reported. Nothing is durable before the
// target's own flush.

import { DamageError, VmarError } from '../base/errors.js';
import type { Executor, ExtractReport } from '../pipeline/executor.js';
import { chunkKey } from './chunk-key.js';
import type { ChunkReader } from './chunk-reader.js';
import type { ChunkSource, LikelyNext } from './chunk-source.js';
import { addRange, joinRanges, type LostRange } from './lost-ranges.js';
import type { MapReader } from './map-reader.js';
import { walkMap } from './map-walk.js';
import { type ExtractBatch, type RestorePlan, RestorePlanner, type UnplacedChunk } from './restore-plan.js';
import { type TakeTurn, takingTurns } from './turns.js';

/** Where a disk is restored to. */
export interface RestoreTarget {
  readonly fd: number;
  /** The same file opened with O_DIRECT; -1 if it cannot be. */
  readonly directFd: number;
  readonly alignment: number;
  /** Whether zeros must be written where the backup has them; false if the target reads as zeros already. */
  readonly writeZeros: boolean;
  write(offsetBytes: number, bytes: Uint8Array): Promise<void>;
  writeZeroes(offsetBytes: number, lengthBytes: number): Promise<void>;
}

export interface RestoreOptions {
  readonly source: ChunkSource;
  readonly chunks: ChunkReader;
  readonly map: MapReader;
  readonly sizeBytes: number;
  readonly clusterSizeBytes: number;
  readonly target: RestoreTarget;
  readonly executor: Executor;
  /** Go on past damage, leaving zeros; else the first damage ends the restore with its error. */
  readonly allowDamaged: boolean;
  readonly signal?: AbortSignal;
  /** Called with the bytes of the disk done since the last call. */
  readonly onProgress?: (bytes: number) => void;
}

export interface RestoreResult {
  readonly writtenBytes: number;
  readonly zeroBytes: number;
  readonly lost: readonly LostRange[];
}

/** Frames planned together: 64 MiB or so of the disk. */
const WINDOW_FRAMES = 64;
const BATCHES_IN_FLIGHT = 6;
const LOST_CHUNKS = 4096;
/** Chunks without a place that are planned together. */
const WINDOW_UNPLACED = 1024;
/** Chunks that are not where they should be are looked for together: so many at most, some ten MiB. */
const MOST_STRAYS = 1 << 17;
/** At first a few, since the first that is nowhere may end it all; then ever more. */
const FIRST_STRAYS = 1;
const MORE_STRAYS = 8;

/** @throws DamageError on the first range that cannot be had, unless `allowDamaged`; InterruptedError on abort. */
export async function restoreDisk(options: RestoreOptions): Promise<RestoreResult> {
  return await new DiskRestore(options).run();
}

class DiskRestore {
  readonly #options: RestoreOptions;
  readonly #planner: RestorePlanner;
  readonly #inFlight = new Set<Promise<void>>();
  readonly #lost: LostRange[] = [];
  /** Chunks that are not where they should be, to be looked for together. */
  #strays: UnplacedChunk[] = [];
  #mostStrays: number;
  /** Chunks that were looked for everywhere, in vain; a cluster that is on the disk many times is looked for once. */
  readonly #lostChunks = new Map<string, VmarError>();
  readonly #takeTurn: TakeTurn;
  #writtenBytes = 0;
  #zeroBytes = 0;
  #failure: unknown;

  constructor(options: RestoreOptions) {
    this.#options = options;
    this.#takeTurn = takingTurns(options.signal);
    this.#planner = new RestorePlanner(options.source, options);
    this.#mostStrays = options.allowDamaged ? MOST_STRAYS : FIRST_STRAYS;
  }

  async run(): Promise<RestoreResult> {
    try {
      for await (const step of walkMap(this.#options.map)) {
        this.#check();
        if (step.kind === 'page') this.#planner.addPage(step.firstCluster, step.ids);
        else if (step.kind === 'zero') this.#planner.addZeros(step.firstCluster, step.count);
        else await this.#lose(this.#range(step.firstCluster, step.count), step.error);
        if (this.#planner.frameCount >= WINDOW_FRAMES || this.#planner.unplacedCount >= WINDOW_UNPLACED)
          await this.#carryOut(this.#planner.take());
      }
      await this.#carryOut(this.#planner.take());
      await Promise.all(this.#inFlight);
      await this.#settleStrays();
    } catch (error) {
      this.#failure ??= error;
    }
    await Promise.all(this.#inFlight);
    if (this.#failure !== undefined) throw this.#failure;
    return { writtenBytes: this.#writtenBytes, zeroBytes: this.#zeroBytes, lost: joinRanges(this.#lost) };
  }

  #check(): void {
    this.#options.signal?.throwIfAborted();
    if (this.#failure !== undefined) throw this.#failure;
  }

  #range(firstCluster: number, count: number): { offsetBytes: number; lengthBytes: number } {
    const { clusterSizeBytes, sizeBytes } = this.#options;
    const offsetBytes = firstCluster * clusterSizeBytes;
    return { offsetBytes, lengthBytes: Math.min(sizeBytes, offsetBytes + count * clusterSizeBytes) - offsetBytes };
  }

  async #carryOut(plan: RestorePlan): Promise<void> {
    for (const range of plan.zeros) await this.#writeZeros(range.offsetBytes, range.lengthBytes);
    for (const batch of plan.batches) {
      while (this.#inFlight.size >= BATCHES_IN_FLIGHT) await Promise.race(this.#inFlight);
      this.#check();
      this.#start(batch);
    }
    this.#strays.push(...plan.unplaced);
    if (this.#strays.length >= this.#mostStrays) await this.#settleStrays();
  }

  /** Any good copy of them will do: they are looked for in one search. */
  async #settleStrays(): Promise<void> {
    const strays = this.#strays.sort((a, b) => a.targetOffset - b.targetOffset);
    this.#strays = [];
    if (strays.length > 0) this.#mostStrays = Math.min(MOST_STRAYS, this.#mostStrays * MORE_STRAYS);
    for (const [at, chunk] of strays.entries()) {
      await this.#takeTurn();
      this.#check();
      await this.#restoreAlone(chunk, () => idsFrom(strays, at + 1));
    }
  }

  async #writeZeros(offsetBytes: number, lengthBytes: number): Promise<void> {
    if (this.#options.target.writeZeros) await this.#options.target.writeZeroes(offsetBytes, lengthBytes);
    this.#zeroBytes += lengthBytes;
    this.#options.onProgress?.(lengthBytes);
  }

  #start(batch: ExtractBatch): void {
    if (batch.frames.length === 0) return;
    const { target, executor } = this.#options;
    const { container, frames } = batch;
    const { fd, directFd, alignment } = target;
    container.pin();
    const job = {
      fd: container.fd,
      object: container.path,
      frames,
      target: { kind: 'file' as const, fd, directFd, alignment },
    };
    const done = executor
      .extract(job)
      .finally(() => container.unpin())
      .then(async (report) => await this.#account(batch, report))
      .catch((error: unknown) => {
        this.#failure ??= error;
      })
      .finally(() => this.#inFlight.delete(done));
    this.#inFlight.add(done);
  }

  async #account(batch: ExtractBatch, report: ExtractReport): Promise<void> {
    this.#writtenBytes += report.bytesWritten;
    this.#options.onProgress?.(report.bytesWritten);
    for (const damaged of report.damaged) {
      const chunks = batch.frames[damaged.frame]?.chunks ?? [];
      const wanted = damaged.chunk === undefined ? chunks : chunks.slice(damaged.chunk, damaged.chunk + 1);
      for (const { id, targetOffset, lengthBytes } of wanted) this.#strays.push({ id, targetOffset, lengthBytes });
    }
  }

  async #restoreAlone(chunk: UnplacedChunk, next: LikelyNext): Promise<void> {
    const bytes = await this.#read(chunk, next);
    if (bytes instanceof VmarError) {
      await this.#lose({ offsetBytes: chunk.targetOffset, lengthBytes: chunk.lengthBytes }, bytes);
      return;
    }
    await this.#options.target.write(chunk.targetOffset, bytes);
    this.#writtenBytes += bytes.byteLength;
    this.#options.onProgress?.(bytes.byteLength);
  }

  /** The chunk, or why it cannot be had. */
  async #read({ id, lengthBytes }: UnplacedChunk, next: LikelyNext): Promise<Uint8Array | VmarError> {
    const known = this.#lostChunks.get(chunkKey(id));
    if (known !== undefined) return known;
    try {
      const bytes = await this.#options.chunks.read(id, 0, next);
      return bytes.byteLength === lengthBytes ? bytes : wrongLength(lengthBytes, bytes.byteLength);
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      if (this.#lostChunks.size < LOST_CHUNKS) this.#lostChunks.set(chunkKey(id), error);
      return error;
    }
  }

  /** Only damage is made up for with zeros; whatever else goes wrong ends the restore. */
  async #lose(range: { offsetBytes: number; lengthBytes: number }, error: VmarError): Promise<void> {
    if (!this.#options.allowDamaged || !(error instanceof DamageError)) throw error;
    if (this.#options.target.writeZeros) await this.#options.target.writeZeroes(range.offsetBytes, range.lengthBytes);
    this.#options.onProgress?.(range.lengthBytes);
    addRange(this.#lost, { ...range, problem: error.message });
  }
}

function* idsFrom(chunks: readonly UnplacedChunk[], first: number): Generator<Uint8Array> {
  for (let at = first; at < chunks.length; at++) yield chunks[at]!.id;
}

function wrongLength(expected: number, found: number): DamageError {
  return new DamageError('chunk-length', 'the map names a chunk of another length than its cluster has', {
    expected: `${expected} bytes`,
    found: `${found} bytes`,
  });
}
