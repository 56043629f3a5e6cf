// SPDX-License-Identifier: MIT
// Checks every byte of one container: header, extents, tables, footer, and that the tables say what the extents hold.

import { CONTAINER_HEADER_BYTES } from '../../../formats/vmar/container-header.js';
import { FOOTER_BYTES } from '../../../formats/vmar/trailer.js';
import type { Executor, VerifyDamage } from '../../pipeline/executor.js';
import { TableSum } from '../../pipeline/table-sum.js';
import type { ContainerReader } from '../../store/container-reader.js';
import { compareFrames, type FrameComparison, framesIn, manifestIn, readable } from './container-parts.js';
import type { Checked, DamageList } from './damage.js';
import type { DamagedPlaces } from './damaged-places.js';
import { reportLies, verifyTables } from './verify-tables.js';

export interface ContainerCheck {
  readonly reader: ContainerReader;
  readonly executor: Executor;
  readonly mode: 'full' | 'quick';
  readonly implementation: 'native' | 'reference';
  readonly damage: DamageList;
  /** Gets what must not be counted on. */
  readonly damagedPlaces: DamagedPlaces;
  readonly checked: Checked;
  readonly signal?: AbortSignal;
  readonly onProgress?: (bytes: number) => void;
}

/** Extents walked by one task: long enough to be cheap, short enough that a long archive keeps all workers busy. */
const STEP_BYTES = 64 << 20;

/** Records what is damaged. A quick check of a container of nothing but map pages is a full one. */
export async function verifyContainer(wish: ContainerCheck): Promise<void> {
  const check = wish.reader.header.content === 'maps' ? { ...wish, mode: 'full' as const } : wish;
  const { reader, checked } = check;
  reader.pin();
  try {
    const walk = await walkExtents(check);
    const tableSum = verifyTables(check);
    if (walk !== undefined) {
      const isLying = tableSum !== undefined && !Buffer.from(tableSum).equals(walk.sum.bytes());
      reportLies(check, isLying, walk.lyingFrames);
      checkFooter(check, walk);
    }
    checked.storedBytes += reader.fileBytes;
  } finally {
    reader.unpin();
  }
}

/** What the extents hold. */
interface ExtentsWalked {
  readonly sum: TableSum;
  /** Frames of which the frame table says something else. */
  readonly lyingFrames: number[];
  extents: number;
  frames: number;
  chunks: number;
  rawBytes: number;
}

/** Undefined if an extent could not be read: then nobody knows what all of them hold. */
async function walkExtents(check: ContainerCheck): Promise<ExtentsWalked | undefined> {
  const { reader, executor, mode, implementation, checked } = check;
  const to = reader.footer.chunkTableOffset;
  const counts = { extents: 0, frames: 0, chunks: 0, rawBytes: 0 };
  const walked: ExtentsWalked = { sum: new TableSum(reader.header.hash), lyingFrames: [], ...counts };
  let at = { nextOffset: CONTAINER_HEADER_BYTES, nextSequence: 0, nextFrame: 0 };
  let isKnown = true;
  while (at.nextOffset < to) {
    check.signal?.throwIfAborted();
    const from = { offset: at.nextOffset, frame: at.nextFrame };
    const report = await executor.verifyExtents({
      fd: reader.fd,
      object: reader.path,
      hash: reader.header.hash,
      containerId: reader.header.containerId,
      from: from.offset,
      to,
      firstSequence: at.nextSequence,
      firstFrame: from.frame,
      mode,
      implementation,
      stopAfterBytes: STEP_BYTES,
    });
    for (const key of ['extents', 'frames', 'chunks'] as const) checked[key] += report[key];
    if (mode === 'full') checked.rawBytes += report.rawBytes;
    for (const found of report.damage) recordDamage(check, found);
    for (const key of ['extents', 'frames', 'chunks', 'rawBytes'] as const) walked[key] += report[key];
    walked.sum.addSum(report.tableSum);
    isKnown &&= report.tableSumKnown;
    at = report;
    const range: FrameComparison = { from: from.offset, to: at.nextOffset, firstFrame: from.frame };
    if (isKnown) walked.lyingFrames.push(...compareFrames(reader, range));
    check.onProgress?.(at.nextOffset - from.offset);
  }
  return isKnown ? walked : undefined;
}

function recordDamage({ reader, damage, damagedPlaces }: ContainerCheck, found: VerifyDamage): void {
  const { offsetBytes, lengthBytes, kind, problem } = found;
  const manifest = manifestIn(reader, found);
  const record = damage.add(
    { file: reader.path, offsetBytes, lengthBytes, kind, problem },
    manifest === undefined ? [] : [manifest],
  );
  // In a frame that opens, the chunks that are as they should be can be had.
  if (kind === 'chunk') for (const id of idsOf(found)) damagedPlaces.addChunk(reader, id, record);
  else for (const frame of framesIn(reader, found)) damagedPlaces.addFrame(reader, frame, record);
}

function* idsOf({ ids }: VerifyDamage): Generator<Uint8Array> {
  for (let at = 0; at < ids.byteLength; at += 32) yield ids.subarray(at, at + 32);
}

/** The footer was written in one go with its seal, so this is a liar's, or a bug's. */
function checkFooter({ reader, damage }: ContainerCheck, walked: ExtentsWalked): void {
  const { extentCount, frameCount, chunkCount, rawBytes, manifestExtentOffset: at } = reader.footer;
  const told = [extentCount, frameCount, chunkCount, rawBytes].join(', ');
  const found = [walked.extents, walked.frames, walked.chunks, walked.rawBytes].join(', ');
  const problems: string[] = [];
  if (told !== found)
    problems.push(`the footer counts ${told} extents, frames, chunks and bytes where there are ${found}`);
  if (at !== 0 && readable(() => reader.extentHead(at))?.content !== MANIFEST_CONTENT) {
    problems.push(`the footer says that there is a manifest at ${at}, and there is none`);
  }
  if (problems.length === 0) return;
  const range = { offsetBytes: reader.fileBytes - FOOTER_BYTES, lengthBytes: FOOTER_BYTES };
  damage.add({ file: reader.path, ...range, kind: 'container', problem: problems.join('; ') });
}

/** Of an extent. */
const MANIFEST_CONTENT = 3;
