// SPDX-License-Identifier: MIT
// Writes what is needed of some packs into new ones. Large frames that are needed whole are copied as they are; of the
// others the chunks that are needed are joined to new frames.
//
// Guarantee: when `rewrite` resolves, the new packs are durable under their names, and every chunk that was copied has
// its home there. What could not be read keeps the home it had. The old packs are not touched.

import { CONTAINER_HEADER_BYTES } from '../../../formats/vmar/container-header.js';
import { envelopeDigest } from '../../../formats/vmar/envelope.js';
import type { ChunkEntry, Extent } from '../../../formats/vmar/extent.js';
import { CHUNK_ENTRY_BYTES, EXTENT_HEADER_BYTES, FRAME_ENTRY_BYTES } from '../../../formats/vmar/extent.js';
import { chunkContext, createHasher, type Hasher, sealer } from '../../../formats/vmar/hash.js';
import { MAX_MANIFEST_BYTES } from '../../../formats/vmar/limits.js';
import { decodeManifest } from '../../../formats/vmar/manifest.js';
import type { TableFrame } from '../../../formats/vmar/trailer.js';
import { bytesEqual, toHex } from '../../base/bytes.js';
import { DamageError, VmarError } from '../../base/errors.js';
import type { ContainerReader } from '../../store/container-reader.js';
import type { FramePart } from '../../store/container-writer.js';
import { manifestKey } from '../../store/gc/fossil-record.js';
import { wordsOf } from '../../store/gc/id-table.js';
import { type PackPlace, PackStream } from '../../store/pack-stream.js';
import { readSmallFile } from '../../store/small-file.js';
import type { SinkMachine } from '../archive-sink.js';
import { readFrame } from '../chunk-reader.js';
import { FrameBuilder } from '../frame-builder.js';
import { manifestPart } from '../manifest-part.js';
import { isChunk } from './claim-damaged.js';
import type { GcPack, GcPacks } from './gc-packs.js';
import type { Marks } from './mark.js';
import { chunkPages, type Homes } from './sweep.js';

const MAP_FRAME_BYTES = 128 * 1024;
/** The home of chunks between two packs. */
const UNDER_WAY = 0xffffffff;
const ENTRY_WORDS = 12;

export interface RewriteOptions {
  readonly packs: GcPacks;
  readonly marks: Marks;
  readonly homes: Homes;
  readonly machine: SinkMachine;
  readonly place: PackPlace;
  /** Where a manifest lies, by its key. */
  readonly manifestFile: (key: string) => string | undefined;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: (bytes: number) => void;
}

/** A frame in its pack, and what lies in it. */
interface Frame extends TableFrame {
  readonly chunks: readonly ChunkEntry[];
}

type Pass = 'whole frames' | 'parts of frames';

/** Rewrites packs of one content. Returns the new packs. */
export async function rewrite(sources: readonly GcPack[], options: RewriteOptions): Promise<GcPack[]> {
  return await new Rewriter(sources, options).run();
}

class Rewriter {
  readonly #sources: readonly GcPack[];
  readonly #options: RewriteOptions;
  readonly #stream: PackStream;
  readonly #builder: FrameBuilder;
  readonly #frameBytes: number;
  readonly #hashers: Hasher[] = [];
  readonly #manifests = new Map<string, FramePart>();

  constructor(sources: readonly GcPack[], options: RewriteOptions) {
    this.#sources = sources;
    this.#options = options;
    const { executor, gatherSlots, frameSlots, dataFrameBytes } = options.machine;
    const isMaps = sources[0]?.content === 'maps';
    this.#frameBytes = isMaps ? MAP_FRAME_BYTES : dataFrameBytes;
    this.#stream = new PackStream(options.place, isMaps ? 2 : 1);
    const output = this.#stream;
    this.#builder = new FrameBuilder({ executor, gatherSlots, frameSlots, output, frameBytes: this.#frameBytes });
  }

  async run(): Promise<GcPack[]> {
    try {
      // One after the other, since each frame that is copied whole closes the one that parts are joined in.
      for (const pack of this.#sources) await this.#copyPack(pack, 'whole frames');
      for (const pack of this.#sources) await this.#copyPack(pack, 'parts of frames');
      await this.#builder.finish();
      for (const part of this.#manifests.values()) await this.#stream.addManifest(part);
      await this.#stream.finish();
    } catch (error) {
      await this.#builder.abandon();
      await this.#stream.abandon().catch(() => undefined);
      throw error;
    }
    return this.#moveIn();
  }

  /** A pack that turns out damaged is left alone; what was copied of it until then is no loss. */
  async #copyPack(pack: GcPack, pass: Pass): Promise<void> {
    const { packs, signal, onProgress } = this.#options;
    if (packs.isDamaged(pack)) return;
    if (pack.damage !== undefined) {
      if (pass === 'parts of frames') await this.#copyDamaged(pack);
      return;
    }
    for (const extent of extentsOf(packs, pack)) {
      signal?.throwIfAborted();
      if (extent.content === 3) this.#keepManifest(pack, extent);
      else if (extent.content < 3) for (const frame of framesOf(extent)) await this.#copyFrame(pack, frame, pass);
    }
    if (pass === 'parts of frames') onProgress(pack.fileBytes);
  }

  /** What can be had of a damaged pack, chunk by chunk. Whatever else is needed of it has a home elsewhere. */
  async #copyDamaged(pack: GcPack): Promise<void> {
    const { packs, signal, onProgress, manifestFile } = this.#options;
    const reader = packs.reader(pack);
    for (const { frame, chunks, manifest } of packs.contents(pack)) {
      signal?.throwIfAborted();
      if (manifest !== undefined) await this.#remakeManifest(pack, manifest, manifestFile(manifest));
      const needed = chunks.filter(({ id }) => this.#isHome(pack, id));
      if (needed.length === 0) continue;
      try {
        const raw = readFrame(reader, frame);
        const bad = needed.find((chunk) => !isChunk(reader, raw, chunk));
        if (bad !== undefined) throw chunkDamaged(reader, frame, bad);
        for (const chunk of needed) {
          const { offsetBytes, lengthBytes } = chunk;
          await this.#builder.addCopy(raw.subarray(offsetBytes, offsetBytes + lengthBytes), chunk);
        }
      } catch (error) {
        if (!(error instanceof DamageError)) throw error;
        packs.setDamaged(pack, error);
        return;
      }
      for (const { id } of needed) this.#setHome(id, UNDER_WAY);
    }
    onProgress(pack.fileBytes);
  }

  /** The copy that a damaged pack keeps of a manifest, from the manifest itself. */
  async #remakeManifest(pack: GcPack, key: string, path: string | undefined): Promise<void> {
    const { packs, homes } = this.#options;
    if (path === undefined || homes.ofManifest(key) !== pack.number || this.#manifests.has(key)) return;
    try {
      const bytes = await readSmallFile(path, MAX_MANIFEST_BYTES);
      decodeManifest(bytes, path);
      if (manifestKey(envelopeDigest(bytes)) !== key) return;
      this.#manifests.set(key, manifestPart(bytes, packs.reader(pack).header.hash));
    } catch (error) {
      // Forgotten meanwhile.
      if (!(error instanceof VmarError)) throw error;
    }
  }

  async #copyFrame(pack: GcPack, frame: Frame, pass: Pass): Promise<void> {
    const { packs, machine } = this.#options;
    const needed = frame.chunks.filter((chunk) => this.#isHome(pack, chunk.id));
    if (needed.length === 0) return;
    const isWhole =
      needed.length === frame.chunks.length &&
      frame.rawBytes * 2 >= this.#frameBytes &&
      frame.storedBytes <= machine.frameSlots.slotBytes;
    if (isWhole !== (pass === 'whole frames')) return;
    try {
      if (isWhole) await this.#copyWhole(packs.reader(pack), frame);
      else await this.#copyParts(packs.reader(pack), frame, new Set(needed));
    } catch (error) {
      if (!(error instanceof DamageError)) throw error;
      packs.setDamaged(pack, error);
      return;
    }
    for (const { id } of needed) this.#setHome(id, UNDER_WAY);
  }

  #isHome(pack: GcPack, id: Uint8Array): boolean {
    const { live } = this.#options.marks;
    const slot = live.find(wordsOf(id), 0);
    return slot >= 0 && live.value(slot) === pack.number;
  }

  #setHome(id: Uint8Array, number: number): void {
    const { live } = this.#options.marks;
    const slot = live.find(wordsOf(id), 0);
    if (slot >= 0) live.setValue(slot, number);
  }

  async #copyWhole(reader: ContainerReader, frame: Frame): Promise<void> {
    const { codec, storedBytes, rawBytes, seal, chunks } = frame;
    const bytes = readStored(reader, frame);
    const slot = await this.#options.machine.frameSlots.acquire();
    slot.bytes.set(bytes);
    try {
      await this.#builder.addFrame({ codec, storedBytes, rawBytes, seal }, slot, chunks);
    } catch (error) {
      slot.release();
      throw error;
    }
  }

  /** All chunks are checked before one is taken. */
  async #copyParts(reader: ContainerReader, frame: Frame, needed: ReadonlySet<ChunkEntry>): Promise<void> {
    const raw = readFrame(reader, frame);
    const pieces: { bytes: Uint8Array; chunk: ChunkEntry }[] = [];
    let at = 0;
    for (const chunk of frame.chunks) {
      const bytes = raw.subarray(at, at + chunk.lengthBytes);
      at += chunk.lengthBytes;
      if (!needed.has(chunk)) continue;
      if (!bytesEqual(this.#hasher(reader, chunk.kind).digest(bytes), chunk.id))
        throw chunkDamaged(reader, frame, chunk);
      pieces.push({ bytes, chunk });
    }
    for (const { bytes, chunk } of pieces) await this.#builder.addCopy(bytes, chunk);
  }

  #hasher(reader: ContainerReader, kind: number): Hasher {
    this.#hashers[kind] ??= createHasher(reader.header.hash, chunkContext(kind));
    return this.#hashers[kind]!;
  }

  /** The copy of a manifest that is there, if this pack keeps it. */
  #keepManifest(pack: GcPack, extent: Extent): void {
    const { packs, homes } = this.#options;
    const [chunk] = extent.chunks;
    const [frame] = framesOf(extent);
    if (chunk === undefined || frame === undefined) return;
    const key = manifestKey(chunk.id);
    if (homes.ofManifest(key) !== pack.number || this.#manifests.has(key)) return;
    try {
      const bytes = readStored(packs.reader(pack), frame);
      const { storedBytes, rawBytes, codec, seal } = frame;
      this.#manifests.set(key, {
        entry: { storedBytes, rawBytes, codec, seal, chunkCount: 1 },
        bytes,
        chunks: [chunk],
      });
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      packs.setDamaged(pack, error);
    }
  }

  /** What the new packs' own tables have is at home there. */
  #moveIn(): GcPack[] {
    const { packs, marks, homes } = this.#options;
    const ids = this.#stream.ids.map((id) => toHex(id));
    packs.add(ids, new Set(), false);
    const made = ids.flatMap((id) => packs.get(id) ?? []);
    for (const pack of made) {
      for (const words of chunkPages(packs.reader(pack))) {
        for (let at = 0; at < words.length; at += ENTRY_WORDS) {
          const slot = marks.live.find(words, at);
          if (slot >= 0) marks.live.setValue(slot, pack.number);
        }
      }
    }
    const last = made.at(-1);
    if (last !== undefined) for (const key of this.#manifests.keys()) homes.moveManifest(key, last);
    return made;
  }
}

/** The extents of a pack from front to back; ends early where one is damaged, which is remembered. */
function* extentsOf(packs: GcPacks, pack: GcPack): Generator<Extent> {
  try {
    const reader = packs.reader(pack);
    for (let at = CONTAINER_HEADER_BYTES; at < reader.footer.chunkTableOffset; ) {
      const extent = reader.extentHead(at);
      yield extent;
      at += headBytes(extent);
      for (const { storedBytes } of extent.frames) at += storedBytes;
    }
  } catch (error) {
    if (!(error instanceof DamageError)) throw error;
    packs.setDamaged(pack, error);
  }
}

function headBytes({ chunks, frames }: Extent): number {
  return EXTENT_HEADER_BYTES + chunks.length * CHUNK_ENTRY_BYTES + frames.length * FRAME_ENTRY_BYTES;
}

function framesOf(extent: Extent): Frame[] {
  let offsetBytes = extent.offsetBytes + headBytes(extent);
  let first = 0;
  return extent.frames.map((entry) => {
    const frame = { ...entry, offsetBytes, chunks: extent.chunks.slice(first, first + entry.chunkCount) };
    offsetBytes += entry.storedBytes;
    first += entry.chunkCount;
    return frame;
  });
}

/** The frame's bytes as they are stored. @throws DamageError if they do not match their seal. */
function readStored(reader: ContainerReader, { offsetBytes, storedBytes, seal }: TableFrame): Uint8Array {
  const bytes = reader.readBytes(offsetBytes, storedBytes);
  if (bytesEqual(sealer(reader.header.hash)(bytes), seal)) return bytes;
  throw new DamageError('frame-damaged', 'a frame does not match its seal', { object: reader.path, offsetBytes });
}

function chunkDamaged(reader: ContainerReader, { offsetBytes }: TableFrame, { id }: ChunkEntry): DamageError {
  const facts = { object: reader.path, offsetBytes, expected: toHex(id) };
  return new DamageError('chunk-damaged', 'a chunk does not match its id', facts);
}
