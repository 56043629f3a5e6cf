// SPDX-License-Identifier: MIT
// What lies in a pack that is damaged: by its tables, or by its extents where a table is what is damaged.

import { CONTAINER_HEADER_BYTES } from '../../../formats/vmar/container-header.js';
import {
  CHUNK_ENTRY_BYTES,
  type ChunkEntry,
  DISK_UNTOLD,
  EXTENT_HEADER_BYTES,
  FRAME_ENTRY_BYTES,
} from '../../../formats/vmar/extent.js';
import { TABLE_CHUNK_BYTES, type TableFrame } from '../../../formats/vmar/trailer.js';
import { DamageError } from '../../base/errors.js';
import type { ContainerReader } from '../../store/container-reader.js';
import { manifestKey } from '../../store/gc/fossil-record.js';
import { manifestCopyAt } from './sweep.js';

export interface PlacedChunk extends ChunkEntry {
  /** In the frame's raw bytes. */
  readonly offsetBytes: number;
}

export interface ContentFrame {
  readonly number: number;
  readonly frame: TableFrame;
  readonly chunks: readonly PlacedChunk[];
  /** `manifestKey` of the manifest that it is a copy of, if so. */
  readonly manifest: string | undefined;
}

const MANIFEST_CONTENT = 3;

/** @throws DamageError if neither the tables nor the extents can be read. */
export function contentsOf(reader: ContainerReader): ContentFrame[] {
  try {
    return byTables(reader);
  } catch (error) {
    if (!(error instanceof DamageError)) throw error;
    return byExtents(reader);
  }
}

function byTables(reader: ContainerReader): ContentFrame[] {
  const chunks: PlacedChunk[][] = Array.from({ length: reader.footer.frameCount }, () => []);
  for (let page = 0; page < reader.chunkPageCount; page++) {
    const entries = reader.chunkPage(page);
    const view = new DataView(entries.buffer, entries.byteOffset, entries.byteLength);
    for (let at = 0; at < entries.byteLength; at += TABLE_CHUNK_BYTES) {
      chunks[view.getUint32(at + 32, true)]?.push({
        id: Uint8Array.prototype.slice.call(entries, at, at + 32),
        offsetBytes: view.getUint32(at + 36, true),
        lengthBytes: view.getUint32(at + 40, true),
        kind: view.getUint32(at + 44, true),
        ...{ disk: DISK_UNTOLD, where: 0 },
      });
    }
  }
  return chunks.map((placed, number) => ({
    ...{ number, frame: reader.frame(number), chunks: placed },
    manifest: placed.length === 0 ? copyAt(reader, number) : undefined,
  }));
}

/** Nobody can tell whose copy it is where its head is damaged. */
function copyAt(reader: ContainerReader, frame: number): string | undefined {
  try {
    return manifestCopyAt(reader, frame);
  } catch (error) {
    if (error instanceof DamageError) return undefined;
    throw error;
  }
}

function byExtents(reader: ContainerReader): ContentFrame[] {
  const contents: ContentFrame[] = [];
  for (let at = CONTAINER_HEADER_BYTES; at < reader.footer.chunkTableOffset; ) {
    const { content, chunks, frames } = reader.extentHead(at);
    at += EXTENT_HEADER_BYTES + chunks.length * CHUNK_ENTRY_BYTES + frames.length * FRAME_ENTRY_BYTES;
    let next = 0;
    for (const entry of frames) {
      const inFrame = chunks.slice(next, next + entry.chunkCount);
      const manifest =
        content === MANIFEST_CONTENT && inFrame[0] !== undefined ? manifestKey(inFrame[0].id) : undefined;
      contents.push({
        ...{ number: contents.length, frame: { ...entry, offsetBytes: at }, manifest },
        chunks: content < MANIFEST_CONTENT ? placed(inFrame) : [],
      });
      next += entry.chunkCount;
      at += entry.storedBytes;
    }
  }
  return contents;
}

function placed(chunks: readonly ChunkEntry[]): PlacedChunk[] {
  let offsetBytes = 0;
  return chunks.map((chunk) => {
    const at = offsetBytes;
    offsetBytes += chunk.lengthBytes;
    return { ...chunk, offsetBytes: at };
  });
}
