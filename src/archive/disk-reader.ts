// SPDX-License-Identifier: MIT
// Reads ranges of a disk out of frames. What is in memory is copied at once; all else is asked for frame by frame, each
// frame once however its chunks are scattered over the range.
//
// Guarantee: nothing is copied to the caller before it matched its chunk's id, and nothing after the call settled.

import { DamageError, VmarError } from '../base/errors.js';
import { copyBytes } from '../base/syscalls.js';
import type { BackupReading } from './backup-reading.js';
import type { CachedFrame } from './cached-frame.js';
import type { ChunkPlace, LikelyNext } from './chunk-source.js';
import { DiskPlaces, type DiskShape, idOf, type LeafPage } from './disk-places.js';
import { frameKey } from './frame-cache.js';
import { isZeroId, type MapReader } from './map-reader.js';
import { idsOf, unplaced } from './unplaced.js';

/** Read together; what follows is asked for meanwhile. */
const WINDOW_BYTES = 8 << 20;

/** A part of one cluster, and where it goes. */
interface Piece {
  readonly page: LeafPage;
  readonly entry: number;
  readonly cluster: number;
  readonly inClusterBytes: number;
  readonly into: Uint8Array;
}

interface Group {
  readonly frame: CachedFrame;
  readonly pieces: { readonly piece: Piece; readonly place: ChunkPlace }[];
}

/** A range that cannot be had. */
export interface LostPart {
  /** Of the disk: where the first cluster concerned begins. */
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly error: unknown;
}

export class DiskReader {
  readonly #reading: BackupReading;
  readonly #map: MapReader;
  readonly #shape: DiskShape;
  readonly #places: DiskPlaces;

  constructor(reading: BackupReading, map: MapReader, shape: DiskShape) {
    this.#reading = reading;
    this.#map = map;
    this.#shape = shape;
    this.#places = new DiskPlaces(reading.source, shape);
  }

  /** Places that were remembered may be wrong from here on. */
  forgetPlaces(): void {
    this.#places.forget();
  }

  /** Copies what is in memory, from the start of the range on; how many bytes that was. */
  readNow(offsetBytes: number, into: Uint8Array): number {
    let done = 0;
    while (done < into.byteLength) {
      const piece = this.#pieceAt(offsetBytes + done, into.subarray(done));
      if (piece === undefined || !this.#copyNow(piece)) return done;
      done += piece.into.byteLength;
    }
    return done;
  }

  /**
   * Fills `into`; or the first range that cannot be had, once all others are done with. Where neighbours are not likely
   * to be read, as `isSequential` says, their chunks are not checked before somebody wants them.
   */
  async read(offsetBytes: number, into: Uint8Array, isSequential: boolean): Promise<LostPart | undefined> {
    for (let done = 0; done < into.byteLength; ) {
      const offset = offsetBytes + done;
      const length = Math.min(into.byteLength - done, WINDOW_BYTES - (offset % WINDOW_BYTES));
      const window = this.#readWindow(offset, into.subarray(done, done + length), isSequential);
      const next = Math.min(WINDOW_BYTES, into.byteLength - done - length);
      if (next > 0) void this.ahead(offset + length, next);
      const lost = await window;
      if (lost !== undefined) return lost;
      done += length;
    }
    return undefined;
  }

  /** Has the range's frames loaded; resolves when they are, or as many as there is room for. Never rejects. */
  async ahead(offsetBytes: number, lengthBytes: number): Promise<void> {
    const { clusterSizeBytes } = this.#shape;
    const waits: Promise<void>[] = [];
    const last = Math.ceil((offsetBytes + lengthBytes) / clusterSizeBytes);
    try {
      for (let cluster = Math.floor(offsetBytes / clusterSizeBytes); cluster < last; cluster++) {
        const page = this.#cachedPage(cluster) ?? (await this.#readPage(cluster));
        const entry = cluster % this.#shape.fanout;
        if (isZeroId(idOf(page, entry))) continue;
        const place = this.#places.place(page, entry);
        if (place === undefined) continue;
        const frame = this.#reading.frames.ahead(place.container, place.frame, () =>
          this.#places.together(page, entry, true),
        );
        if (frame === undefined) break;
        if (frame.state === 'waiting' || frame.state === 'loading') waits.push(frame.settled);
      }
    } catch {
      // Whoever reads it learns what is wrong.
    }
    await Promise.all(waits);
  }

  /** The part of one cluster that `into` begins with; undefined if its map page is not in memory. */
  #pieceAt(offsetBytes: number, into: Uint8Array, known?: LeafPage): Piece | undefined {
    const { clusterSizeBytes, fanout } = this.#shape;
    const inClusterBytes = offsetBytes % clusterSizeBytes;
    const cluster = (offsetBytes - inClusterBytes) / clusterSizeBytes;
    const page = known ?? this.#cachedPage(cluster);
    if (page === undefined) return undefined;
    const length = Math.min(into.byteLength, clusterSizeBytes - inClusterBytes);
    return { page, entry: cluster % fanout, cluster, inClusterBytes, into: into.subarray(0, length) };
  }

  #copyNow(piece: Piece): boolean {
    const { page, entry } = piece;
    const id = idOf(page, entry);
    if (isZeroId(id)) {
      piece.into.fill(0);
      return true;
    }
    const place = this.#places.place(page, entry);
    if (place === undefined) return false;
    const frame = this.#reading.frames.get(frameKey(place.container, place.frame));
    return frame !== undefined && this.#copy(frame, place, piece);
  }

  /** False if the chunk is not in the frame as its id says. */
  #copy(frame: CachedFrame, place: ChunkPlace, { page, entry, inClusterBytes, into }: Piece): boolean {
    const bytes = frame.chunk(place.offsetBytes, place.lengthBytes, idOf(page, entry), this.#reading.source.hash);
    if (bytes === undefined) return false;
    copyBytes(into, bytes.subarray(inClusterBytes, inClusterBytes + into.byteLength));
    return true;
  }

  async #readWindow(offsetBytes: number, into: Uint8Array, isSequential: boolean): Promise<LostPart | undefined> {
    const groups = new Map<string, Group>();
    const strays: Piece[] = [];
    const lost: LostPart[] = [];
    try {
      for (let done = 0; done < into.byteLength; ) {
        const offset = offsetBytes + done;
        const rest = into.subarray(done);
        const piece = this.#pieceAt(offset, rest) ?? (await this.#pieceLater(offset, rest, lost));
        if (piece === undefined) break;
        if (!this.#copyNow(piece) && !this.#join(groups, piece, isSequential)) strays.push(piece);
        done += piece.into.byteLength;
      }
    } catch (error) {
      for (const { frame } of groups.values()) this.#reading.frames.release(frame);
      throw error;
    }
    const work = [...groups.values()].map((group) => this.#copyGroup(group, lost));
    for (const piece of strays) work.push(this.#copyStray(piece, undefined, lost));
    await Promise.all(work);
    return lost.sort((a, b) => a.offsetBytes - b.offsetBytes)[0];
  }

  async #pieceLater(offsetBytes: number, into: Uint8Array, lost: LostPart[]): Promise<Piece | undefined> {
    const { clusterSizeBytes } = this.#shape;
    const cluster = Math.floor(offsetBytes / clusterSizeBytes);
    try {
      return this.#pieceAt(offsetBytes, into, await this.#readPage(cluster));
    } catch (error) {
      const { offsetBytes: from, lengthBytes } = this.#pageRange(cluster);
      lost.push({ offsetBytes: from, lengthBytes, error });
      return undefined;
    }
  }

  #pageRange(cluster: number): { offsetBytes: number; lengthBytes: number } {
    const { clusterSizeBytes, fanout, sizeBytes } = this.#shape;
    const offsetBytes = Math.floor(cluster / fanout) * fanout * clusterSizeBytes;
    return { offsetBytes, lengthBytes: Math.min(sizeBytes - offsetBytes, fanout * clusterSizeBytes) };
  }

  /** Puts a piece to others of its frame, and has that loaded; false if no frame is known for it. */
  #join(groups: Map<string, Group>, piece: Piece, isSequential: boolean): boolean {
    const place = this.#places.place(piece.page, piece.entry);
    if (place === undefined) return false;
    const key = frameKey(place.container, place.frame);
    let group = groups.get(key);
    if (group === undefined) {
      const frame = this.#request(place, piece, isSequential);
      if (frame === undefined) return false;
      group = { frame, pieces: [] };
      groups.set(key, group);
    }
    group.pieces.push({ piece, place });
    return true;
  }

  #request({ container, frame }: ChunkPlace, { page, entry }: Piece, isSequential: boolean): CachedFrame | undefined {
    try {
      return this.#reading.frames.request(container, frame, () => this.#places.together(page, entry, isSequential));
    } catch (error) {
      // The frame table is damaged, or the index was wrong.
      if (error instanceof VmarError) return undefined;
      throw error;
    }
  }

  async #copyGroup({ frame, pieces }: Group, lost: LostPart[]): Promise<void> {
    await frame.settled;
    const missed: Piece[] = [];
    for (const { piece, place } of pieces) if (!this.#copy(frame, place, piece)) missed.push(piece);
    const reason = frame.problem;
    this.#reading.frames.release(frame);
    for (const piece of missed) await this.#copyStray(piece, reason, lost);
  }

  /** A chunk that is not where it should be. */
  async #copyStray(piece: Piece, reason: VmarError | undefined, lost: LostPart[]): Promise<void> {
    const { page, entry, cluster } = piece;
    const { search, frames } = this.#reading;
    const id = Uint8Array.from(idOf(page, entry));
    const lengthBytes = this.#places.lengthOf(cluster);
    try {
      search.checkKnown(id);
      await search.anywhere(
        id,
        reason,
        async (place) => {
          if (place.lengthBytes !== lengthBytes) throw wrongLength(lengthBytes, place.lengthBytes);
          const wanted = [{ offsetInFrame: place.offsetBytes, lengthBytes, id, kind: 0 }];
          const frame = frames.request(place.container, place.frame, () => wanted);
          await frame.settled;
          const isGood = this.#copy(frame, place, piece);
          const { problem } = frame;
          frames.release(frame);
          if (isGood) this.#places.found(page, entry, place);
          else if (problem !== undefined) throw problem;
          return isGood;
        },
        this.#likelyNext(piece),
      );
    } catch (error) {
      lost.push({ offsetBytes: cluster * this.#shape.clusterSizeBytes, lengthBytes, error });
    }
  }

  /** Where one frame of a container is damaged, others may be; and what has no place is not alone. */
  #likelyNext({ page, entry, cluster: firstCluster }: Piece): LikelyNext {
    const place = this.#places.place(page, entry);
    const chunks = this.#reading.beside();
    const map = this.#map;
    return function* () {
      if (place !== undefined) yield* idsOf(place.container);
      yield* unplaced({ map, chunks, firstCluster, leastLevel: 0 });
    };
  }

  #cachedPage(cluster: number): LeafPage | undefined {
    const index = Math.floor(cluster / this.#shape.fanout);
    const page = this.#map.cachedPage(1, index);
    return page === undefined ? undefined : { index, ids: page === 'zero' ? this.#zeroPage() : page };
  }

  async #readPage(cluster: number): Promise<LeafPage> {
    const index = Math.floor(cluster / this.#shape.fanout);
    const page = await this.#map.page(1, index);
    return { index, ids: page === 'zero' ? this.#zeroPage() : page };
  }

  #zeros: Uint8Array | undefined;

  #zeroPage(): Uint8Array {
    this.#zeros ??= new Uint8Array(this.#shape.fanout * 32);
    return this.#zeros;
  }
}

function wrongLength(expected: number, found: number): DamageError {
  return new DamageError('chunk-length', 'the map names a chunk of another length than its cluster has', {
    expected: `${expected} bytes`,
    found: `${found} bytes`,
  });
}
