// SPDX-License-Identifier: MIT
// Writes one container front to back: header, extents, trailer (formats/vmar/SPEC.md §4). It knows nothing of datastores.
//
// Guarantee: after `finish` resolves, every byte is on stable storage (the file is fsynced and closed), and nothing was
// ever written twice. After any rejection the file is worthless and must be removed by the caller.

import { type ContainerHeader, encodeContainerHeader } from '../../formats/vmar/container-header.js';
import {
  CHUNK_ENTRY_BYTES,
  type ChunkEntry,
  EXTENT_HEADER_BYTES,
  type ExtentContent,
  encodeExtentHead,
  FRAME_ENTRY_BYTES,
  type FrameEntry,
} from '../../formats/vmar/extent.js';
import { ID_BYTES, SEAL_BYTES } from '../../formats/vmar/hash.js';
import {
  CHUNKS_PER_PAGE,
  encodeFooter,
  encodeTableChunk,
  encodeTableFrame,
  FOOTER_BYTES,
  FRAMES_PER_PAGE,
  sealTablePage,
  TABLE_CHUNK_BYTES,
  TABLE_FRAME_BYTES,
} from '../../formats/vmar/trailer.js';
import type { StoreFile } from './fs.js';
import { type SpillPlace, TableSpool } from './table-spool.js';

/** A frame ready to be written: its entry, its stored bytes, and the chunks that lie in it. */
export interface FramePart {
  readonly entry: FrameEntry;
  readonly bytes: Uint8Array;
  readonly chunks: readonly ChunkEntry[];
}

export class ContainerWriter {
  readonly #file: StoreFile;
  readonly #header: ContainerHeader;
  readonly #chunkTable: TableSpool;
  readonly #frameTable: TableSpool;
  #offset = 0;
  #extents = 0;
  #rawBytes = 0;
  #manifestExtent = 0;

  constructor(file: StoreFile, header: ContainerHeader, spill: SpillPlace) {
    this.#file = file;
    this.#header = header;
    const name = Buffer.from(header.containerId).toString('hex', 0, 4);
    this.#chunkTable = new TableSpool(spill, `${name}-chunks`, TABLE_CHUNK_BYTES, ID_BYTES);
    this.#frameTable = new TableSpool(spill, `${name}-frames`, TABLE_FRAME_BYTES, 0);
  }

  /** Bytes written so far, the trailer not counted. */
  get bytesWritten(): number {
    return this.#offset;
  }

  get chunkCount(): number {
    return this.#chunkTable.count;
  }

  async begin(): Promise<void> {
    await this.#write([encodeContainerHeader(this.#header)]);
  }

  /** Appends one extent. The parts' bytes may be reused once it resolves. */
  async append(content: ExtentContent, parts: readonly FramePart[]): Promise<void> {
    const chunks = parts.flatMap((part) => part.chunks);
    const head = encodeExtentHead(
      {
        content,
        containerId: this.#header.containerId,
        offsetBytes: this.#offset,
        sequence: this.#extents,
        chunks,
        frames: parts.map((part) => part.entry),
      },
      this.#header.hash,
    );
    if (content === 3) this.#manifestExtent = this.#offset;
    let at = this.#offset + EXTENT_HEADER_BYTES + chunks.length * CHUNK_ENTRY_BYTES + parts.length * FRAME_ENTRY_BYTES;
    for (const part of parts) {
      this.#tabulate(content, part, at);
      at += part.entry.storedBytes;
    }
    await this.#write([head, ...parts.map((part) => part.bytes)]);
    this.#extents++;
    await this.#chunkTable.settle();
    await this.#frameTable.settle();
  }

  #tabulate(content: ExtentContent, part: FramePart, offsetBytes: number): void {
    const frame = this.#frameTable.count;
    const place = this.#frameTable.next();
    encodeTableFrame({ offsetBytes, ...part.entry }, place.bytes, place.at);
    if (content > 2) return;
    let inFrame = 0;
    for (const chunk of part.chunks) {
      const slot = this.#chunkTable.next();
      const entry = { id: chunk.id, frame, offsetBytes: inFrame, lengthBytes: chunk.lengthBytes, kind: chunk.kind };
      encodeTableChunk(entry, slot.bytes, slot.at);
      inFrame += chunk.lengthBytes;
    }
    this.#rawBytes += inFrame;
  }

  /** Writes the trailer and makes the whole file durable. Returns its length. */
  async finish(): Promise<number> {
    const chunkTableOffset = this.#offset;
    const chunkCount = this.#chunkTable.count;
    const frameCount = this.#frameTable.count;
    await this.#writeTable(this.#chunkTable, CHUNKS_PER_PAGE);
    const frameTableOffset = this.#offset;
    await this.#writeTable(this.#frameTable, FRAMES_PER_PAGE);
    const footer = encodeFooter(
      {
        containerId: this.#header.containerId,
        chunkCount,
        frameCount,
        chunkTableOffset,
        frameTableOffset,
        fileBytes: this.#offset + FOOTER_BYTES,
        manifestExtentOffset: this.#manifestExtent,
        extentCount: this.#extents,
        rawBytes: this.#rawBytes,
      },
      this.#header.hash,
    );
    await this.#write([footer]);
    await this.#file.fsync();
    await this.#file.close();
    return this.#offset;
  }

  /** Closes the file without finishing it; the caller removes it. */
  async abandon(): Promise<void> {
    await this.#file.close();
  }

  async #writeTable(table: TableSpool, perPage: number): Promise<void> {
    for (const entries of table.blocks(perPage)) {
      const seal = sealTablePage(this.#header.hash, this.#header.containerId, this.#offset, entries);
      await this.#write([entries, seal.subarray(0, SEAL_BYTES)]);
    }
  }

  async #write(buffers: Uint8Array[]): Promise<void> {
    const offset = this.#offset;
    for (const buffer of buffers) this.#offset += buffer.byteLength;
    await this.#file.write(buffers, offset);
  }
}
