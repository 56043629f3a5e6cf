// SPDX-License-Identifier: MIT
// Checks every byte of one container: header, extents, tables, footer, and that the tables say what the extents hold.

import { VmarError } from '../../base/errors.js';
import { CONTAINER_HEADER_BYTES } from '../../../formats/vmar/container-header.js';
import { decodeTableChunk, decodeTableFrame, FRAMES_PER_PAGE, TABLE_CHUNK_BYTES, TABLE_FRAME_BYTES } from '../../../formats/vmar/trailer.js';
import type { Executor, VerifyDamage } from '../../pipeline/executor.js';
import { TableSum } from '../../pipeline/table-sum.js';
import type { ContainerReader } from '../../store/container-reader.js';
import { type Checked, chunkKey, type DamageList } from './damage.js';
import { scanIds } from './scan-ids.js';

export interface ContainerCheck {
  readonly reader: ContainerReader;
  readonly executor: Executor;
  readonly mode: 'full' | 'quick';
  readonly implementation: 'native' | 'reference';
  readonly damage: DamageList;
  readonly checked: Checked;
  readonly signal?: AbortSignal;
  readonly onProgress?: (bytes: number) => void;
}

/** Frames and single chunks of containers that were found damaged. */
export class DamagedPlaces {
  readonly #keys = new Set<string>();

  addFrame(reader: ContainerReader, frame: number): void {
    this.#keys.add(`${frame}@${reader.path}`);
  }

  addChunk(reader: ContainerReader, id: Uint8Array): void {
    this.#keys.add(`${chunkKey(id)}@${reader.path}`);
  }

  has(reader: ContainerReader, frame: number, id: Uint8Array): boolean {
    if (this.#keys.size === 0) return false;
    return this.#keys.has(`${frame}@${reader.path}`) || this.#keys.has(`${chunkKey(id)}@${reader.path}`);
  }
}

/** Extents walked by one task: long enough to be cheap, short enough that a long archive keeps all workers busy. */
const STEP_BYTES = 64 << 20;

/** Records what is damaged, and in `damagedPlaces` what must not be counted on. */
export async function verifyContainer(check: ContainerCheck, damagedPlaces: DamagedPlaces): Promise<void> {
  const { reader, checked } = check;
  reader.pin();
  try {
    const sum = new TableSum(reader.header.hash);
    const walked = await walkExtents(check, sum, damagedPlaces);
    const tableSum = verifyTables(check);
    if (walked && tableSum !== undefined && !Buffer.from(tableSum).equals(sum.bytes())) {
      const { chunkTableOffset, frameTableOffset } = reader.footer;
      check.damage.add({
        file: reader.path,
        offsetBytes: chunkTableOffset,
        lengthBytes: frameTableOffset - chunkTableOffset,
        kind: 'table',
        problem: 'the chunk table does not list what the extents hold',
      });
    }
    checked.storedBytes += reader.fileBytes;
  } finally {
    reader.unpin();
  }
}

/** True if all extents could be read, so that their sum means something. */
async function walkExtents(check: ContainerCheck, sum: TableSum, damagedPlaces: DamagedPlaces): Promise<boolean> {
  const { reader, executor, mode, implementation, checked } = check;
  const to = reader.footer.chunkTableOffset;
  let at = { nextOffset: CONTAINER_HEADER_BYTES, nextSequence: 0, nextFrame: 0 };
  let known = true;
  while (at.nextOffset < to) {
    check.signal?.throwIfAborted();
    const from = at.nextOffset;
    const report = await executor.verifyExtents({
      fd: reader.fd,
      object: reader.path,
      hash: reader.header.hash,
      containerId: reader.header.containerId,
      from,
      to,
      firstSequence: at.nextSequence,
      firstFrame: at.nextFrame,
      mode,
      implementation,
      stopAfterBytes: STEP_BYTES,
    });
    checked.extents += report.extents;
    checked.frames += report.frames;
    checked.chunks += report.chunks;
    if (mode === 'full') checked.rawBytes += report.rawBytes;
    for (const found of report.damage) recordDamage(check, found, damagedPlaces);
    sum.addSum(report.tableSum);
    known &&= report.tableSumKnown;
    at = report;
    check.onProgress?.(at.nextOffset - from);
  }
  return known;
}

function recordDamage(check: ContainerCheck, found: VerifyDamage, damagedPlaces: DamagedPlaces): void {
  const { reader, damage } = check;
  const { offsetBytes, lengthBytes, kind, problem } = found;
  const frames = framesIn(reader, offsetBytes, lengthBytes);
  const ids = [...(found.ids.byteLength > 0 ? splitIds(found.ids) : idsOf(reader, frames))];
  // In a frame that opens, the chunks that are as they should be can be had.
  if (kind === 'chunk') for (const id of ids) damagedPlaces.addChunk(reader, id);
  else for (const frame of frames) damagedPlaces.addFrame(reader, frame);
  damage.add({ file: reader.path, offsetBytes, lengthBytes, kind, problem }, ids);
}

function* splitIds(ids: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < ids.byteLength; at += 32) yield ids.subarray(at, at + 32);
}

/** Numbers of the frames whose stored bytes touch a range; none where the frame table itself cannot be read. */
function framesIn(reader: ContainerReader, offset: number, length: number): Set<number> {
  const frames = new Set<number>();
  for (let page = 0; page < reader.framePageCount; page++) {
    const entries = readable(() => reader.framePage(page));
    if (entries === undefined) continue;
    const perPage = entries.byteLength / TABLE_FRAME_BYTES;
    for (let i = 0; i < perPage; i++) {
      const frame = decodeTableFrame(entries, i * TABLE_FRAME_BYTES);
      if (frame.offsetBytes < offset + length && frame.offsetBytes + frame.storedBytes > offset) {
        frames.add(page * FRAMES_PER_PAGE + i);
      }
    }
  }
  return frames;
}

function* idsOf(reader: ContainerReader, frames: ReadonlySet<number>): Generator<Uint8Array> {
  if (frames.size === 0) return;
  for (let page = 0; page < reader.chunkPageCount; page++) {
    const entries = readable(() => reader.chunkPage(page));
    if (entries === undefined) continue;
    for (let at = 0; at < entries.byteLength; at += TABLE_CHUNK_BYTES) {
      const chunk = decodeTableChunk(entries, at);
      if (frames.has(chunk.frame)) yield chunk.id;
    }
  }
}

function readable(read: () => Uint8Array): Uint8Array | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof VmarError) return undefined;
    throw error;
  }
}

/** Reads every page of both tables; the chunk table's sum if all of it could be read. */
function verifyTables(check: ContainerCheck): Uint8Array | undefined {
  const { reader } = check;
  const sum = new TableSum(reader.header.hash);
  let complete = true;
  const each = (read: () => Uint8Array): Uint8Array | undefined => {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      complete = false;
      // Whoever needs a chunk that the table no longer finds is concerned: which these are, the extents know.
      const ids = scanIds(reader.path, reader.header.containerId, reader.header.hash);
      const offsetBytes = error.offsetBytes ?? reader.footer.chunkTableOffset;
      const kind = error.code === 'container-unreadable' ? 'read-error' : 'table';
      check.damage.add({ file: reader.path, offsetBytes, lengthBytes: 0, kind, problem: error.message }, ids);
      return undefined;
    }
  };
  for (let page = 0; page < reader.chunkPageCount; page++) {
    const entries = each(() => reader.chunkPage(page));
    if (entries !== undefined) sum.addEntries(entries);
  }
  for (let page = 0; page < reader.framePageCount; page++) each(() => reader.framePage(page));
  return complete ? sum.bytes() : undefined;
}

