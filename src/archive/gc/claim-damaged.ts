// SPDX-License-Identifier: MIT
// What a damaged pack is home to: what is sound in it like any other pack, if no other has it; what is suspect only if no
// other pack has it. What of that can be read is written anew with the rest; what cannot be read is lost, until a backup
// stores it again.

import { chunkContext, createHasher, type Hasher } from '../../../formats/vmar/hash.js';
import { bytesEqual, toHex } from '../../base/bytes.js';
import { DamageError } from '../../base/errors.js';
import type { ContainerReader } from '../../store/container-reader.js';
import { wordsOf } from '../../store/gc/id-table.js';
import { readFrame } from '../chunk-reader.js';
import type { GcPack, GcPacks } from './gc-packs.js';
import type { Marks } from './mark.js';
import type { ContentFrame, PlacedChunk } from './pack-contents.js';
import type { Homes } from './sweep.js';

/** Claims of a damaged pack what is not claimed yet. */
export function claimOfDamaged(
  homes: Pick<Homes, 'claimCopy'>,
  packs: GcPacks,
  marks: Marks,
  pack: GcPack,
  which: 'sound' | 'suspect',
): void {
  const { live } = marks;
  for (const content of packs.contents(pack)) {
    const { frame, chunks, manifest } = content;
    if (which === 'sound') pack.storedBytes += frame.storedBytes;
    // A copy that cannot be read is made anew from the manifest itself.
    if (manifest !== undefined && which === 'suspect') homes.claimCopy(manifest, pack, frame.storedBytes);
    let raw: Uint8Array | undefined | 'unread' = 'unread';
    for (const chunk of chunks) {
      if (isSuspect(pack, content, chunk) !== (which === 'suspect')) continue;
      const slot = live.find(wordsOf(chunk.id), 0);
      if (slot < 0 || live.value(slot) !== 0) continue;
      live.setValue(slot, pack.number);
      pack.liveChunks++;
      pack.liveBytes += (frame.storedBytes * chunk.lengthBytes) / frame.rawBytes;
      if (which === 'sound') continue;
      if (raw === 'unread') raw = readable(packs.reader(pack), content);
      if (raw === undefined || !isChunk(packs.reader(pack), raw, chunk)) pack.lostChunks++;
    }
  }
}

function isSuspect({ damage }: GcPack, { number }: ContentFrame, { id }: PlacedChunk): boolean {
  if (damage === undefined) return false;
  return damage === 'tables' || damage.isWhole || damage.frames.has(number) || damage.chunks.has(toHex(id));
}

function readable(reader: ContainerReader, { frame }: ContentFrame): Uint8Array | undefined {
  try {
    return readFrame(reader, frame);
  } catch (error) {
    if (error instanceof DamageError) return undefined;
    throw error;
  }
}

const hashers = new Map<string, Hasher>();

/** Whether the bytes of a frame have the chunk where they are to have it. */
export function isChunk(
  { header }: ContainerReader,
  raw: Uint8Array,
  { id, kind, offsetBytes, lengthBytes }: PlacedChunk,
): boolean {
  const bytes = raw.subarray(offsetBytes, offsetBytes + lengthBytes);
  const name = `${header.hash} ${kind}`;
  let hasher = hashers.get(name);
  if (hasher === undefined) {
    hasher = createHasher(header.hash, chunkContext(kind));
    hashers.set(name, hasher);
  }
  return bytes.byteLength === lengthBytes && bytesEqual(hasher.digest(bytes), id);
}
