// SPDX-License-Identifier: MIT
// The tables at the end of a container: every page, and that they say what the extents hold.

import { CONTAINER_HEADER_BYTES } from '../../../formats/vmar/container-header.js';
import {
  CHUNK_ENTRY_BYTES,
  type ChunkEntry,
  EXTENT_HEADER_BYTES,
  type Extent,
  FRAME_ENTRY_BYTES,
} from '../../../formats/vmar/extent.js';
import { SEAL_BYTES } from '../../../formats/vmar/hash.js';
import {
  CHUNKS_PER_PAGE,
  FRAMES_PER_PAGE,
  TABLE_CHUNK_BYTES,
  TABLE_FRAME_BYTES,
  type TableChunk,
  tablePageOffset,
} from '../../../formats/vmar/trailer.js';
import { VmarError } from '../../base/errors.js';
import { TableSum } from '../../pipeline/table-sum.js';
import type { ContainerReader } from '../../store/container-reader.js';
import { manifestIn, type Range, readable } from './container-parts.js';
import type { DamageList } from './damage.js';
import type { DamagedPlaces } from './damaged-places.js';

export interface TableCheck {
  readonly reader: ContainerReader;
  readonly damage: DamageList;
  readonly damagedPlaces: DamagedPlaces;
}

/** Reads every page of both tables; the chunk table's sum if all of that could be read. */
export function verifyTables(check: TableCheck): Uint8Array | undefined {
  const { reader, damagedPlaces } = check;
  const { chunkTableOffset, frameTableOffset, chunkCount, frameCount } = reader.footer;
  const sum = new TableSum(reader.header.hash);
  let isComplete = true;
  for (let page = 0; page < reader.chunkPageCount; page++) {
    const entries = attempt(() => reader.chunkPage(page));
    if (!(entries instanceof VmarError)) sum.addEntries(entries);
    else {
      isComplete = false;
      recordPage(check, entries, pageRange(chunkTableOffset, page, chunkCount, TABLE_CHUNK_BYTES, CHUNKS_PER_PAGE));
    }
  }
  for (let page = 0; page < reader.framePageCount; page++) {
    const entries = attempt(() => reader.framePage(page));
    if (!(entries instanceof VmarError)) continue;
    const range = pageRange(frameTableOffset, page, frameCount, TABLE_FRAME_BYTES, FRAMES_PER_PAGE);
    const record = recordPage(check, entries, range, manifestOf(reader, page));
    const end = Math.min(frameCount, (page + 1) * FRAMES_PER_PAGE);
    for (let frame = page * FRAMES_PER_PAGE; frame < end; frame++) damagedPlaces.addFrame(reader, frame, record);
  }
  return isComplete ? sum.bytes() : undefined;
}

function attempt(read: () => Uint8Array): Uint8Array | VmarError {
  try {
    return read();
  } catch (error) {
    if (error instanceof VmarError) return error;
    throw error;
  }
}

function pageRange(tableOffset: number, page: number, count: number, entryBytes: number, perPage: number): Range {
  const entries = Math.min(perPage, count - page * perPage);
  const offsetBytes = tablePageOffset(tableOffset, page, entryBytes, perPage);
  return { offsetBytes, lengthBytes: entries * entryBytes + SEAL_BYTES };
}

function recordPage({ reader, damage }: TableCheck, error: VmarError, range: Range, ids: Uint8Array[] = []): number {
  const kind = error.code === 'container-unreadable' ? 'read-error' : 'table';
  return damage.add({ file: reader.path, ...range, kind, problem: error.message }, ids);
}

/** The manifest's frame is the last one. */
function manifestOf(reader: ContainerReader, page: number): Uint8Array[] {
  if (page < reader.framePageCount - 1) return [];
  const digest = manifestIn(reader, { offsetBytes: 0, lengthBytes: reader.fileBytes });
  return digest === undefined ? [] : [digest];
}

/** Tables with good seals that say something else than the extents: what they lie about cannot be had. */
export function reportLies(check: TableCheck, isChunkTableLying: boolean, lyingFrames: readonly number[]): void {
  const { reader, damage, damagedPlaces } = check;
  const { chunkTableOffset, frameTableOffset, fileBytes } = reader.footer;
  if (isChunkTableLying) {
    const range = { offsetBytes: chunkTableOffset, lengthBytes: frameTableOffset - chunkTableOffset };
    const problem = 'the chunk table does not list what the extents hold';
    const record = damage.add({ file: reader.path, ...range, kind: 'table', problem });
    for (const id of misplaced(reader)) {
      damagedPlaces.addChunk(reader, id, record);
      damage.attach(record, id);
    }
  }
  if (lyingFrames.length > 0) {
    const range = { offsetBytes: frameTableOffset, lengthBytes: fileBytes - frameTableOffset };
    const problem = 'the frame table does not list what the extents hold';
    const record = damage.add({ file: reader.path, ...range, kind: 'table', problem });
    for (const frame of lyingFrames) damagedPlaces.addFrame(reader, frame, record);
  }
}

/** The ids of chunks that the chunk table does not have where the extents have them. */
function* misplaced(reader: ContainerReader): Generator<Uint8Array> {
  let number = 0;
  for (let offset = CONTAINER_HEADER_BYTES; offset < reader.footer.chunkTableOffset; ) {
    const extent: Extent | undefined = readable(() => reader.extentHead(offset));
    if (extent === undefined) return;
    let chunk = 0;
    offset += EXTENT_HEADER_BYTES + extent.chunks.length * CHUNK_ENTRY_BYTES + extent.frames.length * FRAME_ENTRY_BYTES;
    for (const frame of extent.frames) {
      const chunks = extent.chunks.slice(chunk, chunk + frame.chunkCount);
      if (extent.content <= 2) yield* misplacedOf(reader, chunks, number);
      chunk += frame.chunkCount;
      offset += frame.storedBytes;
      number++;
    }
  }
}

function* misplacedOf(reader: ContainerReader, chunks: readonly ChunkEntry[], frame: number): Generator<Uint8Array> {
  let offsetBytes = 0;
  for (const { id, lengthBytes, kind } of chunks) {
    const told: TableChunk | undefined = readable(() => reader.find(id));
    // One that was stored twice is told of where it came first.
    const isFirst = told?.frame === frame && told.offsetBytes === offsetBytes;
    const isRight = told !== undefined && (isFirst || told.frame < frame);
    if (!isRight || told.lengthBytes !== lengthBytes || told.kind !== kind) yield id;
    offsetBytes += lengthBytes;
  }
}
