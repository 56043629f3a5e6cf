// SPDX-License-Identifier: MIT
// Whether a pack can go: everything that is needed of it has a home elsewhere, and can be read there.
//
// Guarantee: `mayGo` says true only if every live chunk of the pack lies, by the sealed table of another pack, in a frame
// of that pack whose stored bytes were read and match their seal in this run. A damaged copy never stands for a sound one.

import { sealer } from '../../../formats/vmar/hash.js';
import { TABLE_CHUNK_BYTES } from '../../../formats/vmar/trailer.js';
import { bytesEqual } from '../../base/bytes.js';
import { DamageError, VmarError } from '../../base/errors.js';
import type { ContainerReader } from '../../store/container-reader.js';
import type { GcPack, GcPacks } from './gc-packs.js';
import type { Marks } from './mark.js';
import { chunkPages, type Homes, manifestCopyAt } from './sweep.js';

const ENTRY_WORDS = TABLE_CHUNK_BYTES / 4;
/** Of a frame. */
const GOOD = 1;
const BAD = 2;

export class Copies {
  readonly #packs: GcPacks;
  readonly #marks: Marks;
  readonly #homes: Homes;
  /** What is known of the frames of each pack. */
  readonly #frames = new Map<number, Uint8Array>();
  /** Packs that are about to go, or gone: no home for anything. */
  readonly #leaving = new Set<number>();

  constructor(packs: GcPacks, marks: Marks, homes: Homes) {
    this.#packs = packs;
    this.#marks = marks;
    this.#homes = homes;
  }

  /** The packs that need nothing of themselves any more. Of two that rely on each other neither goes. */
  whichMayGo(packs: readonly GcPack[]): GcPack[] {
    for (const pack of packs) this.#leaving.add(pack.number);
    const going = packs.filter((pack) => this.#mayGo(pack));
    const staying = packs.filter((pack) => !going.includes(pack));
    for (const pack of staying) this.#leaving.delete(pack.number);
    return going;
  }

  /** The packs that are home to live chunks of a pack. */
  homesOf(pack: GcPack): GcPack[] {
    const homes = new Set<number>();
    const { live } = this.#marks;
    for (const words of this.#packs.chunkWords(pack)) {
      for (let at = 0; at < words.length; at += ENTRY_WORDS) {
        const slot = live.find(words, at);
        if (slot >= 0) homes.add(live.value(slot));
      }
    }
    return [...homes].flatMap((number) => this.#packs.byNumber(number) ?? []);
  }

  #mayGo(pack: GcPack): boolean {
    try {
      return this.#chunksMayGo(pack) && this.#manifestsMayGo(pack);
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      this.#packs.setDamaged(pack, error);
      return false;
    }
  }

  #chunksMayGo(pack: GcPack): boolean {
    const { live } = this.#marks;
    // Of a broken pack only the front is known: it goes only if nothing at all is missed.
    if (pack.isBroken && live.countOf(0) > 0) return false;
    for (const words of this.#packs.chunkWords(pack)) {
      for (let at = 0; at < words.length; at += ENTRY_WORDS) {
        const slot = live.find(words, at);
        if (slot < 0) continue;
        const home = this.#packs.byNumber(live.value(slot));
        const id = new Uint8Array(words.buffer, words.byteOffset + at * 4, 32);
        const shape = pack.isBroken ? undefined : { kind: words[at + 11]!, lengthBytes: words[at + 10]! };
        if (home === undefined || !this.#isSoundIn(home, id, shape)) return false;
      }
    }
    return true;
  }

  #isSoundIn(home: GcPack, id: Uint8Array, shape: Shape | undefined): boolean {
    if (this.#leaving.has(home.number)) return false;
    try {
      const reader = this.#packs.reader(home);
      const entry = reader.find(id);
      if (entry === undefined) return false;
      if (shape !== undefined && (entry.kind !== shape.kind || entry.lengthBytes !== shape.lengthBytes)) return false;
      return this.#isFrameGood(home, reader, entry.frame);
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      this.#packs.setDamaged(home, error);
      return false;
    }
  }

  #isFrameGood(pack: GcPack, reader: ContainerReader, frame: number): boolean {
    let known = this.#frames.get(pack.number);
    if (known === undefined) {
      known = new Uint8Array(pack.frameCount);
      this.#frames.set(pack.number, known);
    }
    if (known[frame] === 0) {
      known[frame] = isFrameGood(reader, frame) ? GOOD : BAD;
      if (known[frame] === BAD) this.#packs.setDamaged(pack, frameDamaged(reader, frame));
    }
    return known[frame] === GOOD;
  }

  /** A copy of a manifest is there for repair; it goes when the manifest does, or has another copy. */
  #manifestsMayGo(pack: GcPack): boolean {
    if (pack.isBroken) return true;
    for (const key of this.#manifestsIn(pack)) {
      if (key === undefined || !this.#marks.manifests.has(key)) continue;
      const home = this.#homes.ofManifest(key);
      if (home === undefined || home === pack.number || this.#leaving.has(home)) return false;
    }
    return true;
  }

  #manifestsIn(pack: GcPack): (string | undefined)[] {
    if (pack.damage !== undefined) return this.#packs.contents(pack).map(({ manifest }) => manifest);
    const reader = this.#packs.reader(pack);
    return framesWithoutChunks(reader).map((frame) => manifestCopyAt(reader, frame));
  }
}

interface Shape {
  readonly kind: number;
  readonly lengthBytes: number;
}

function isFrameGood(reader: ContainerReader, frame: number): boolean {
  const { offsetBytes, storedBytes, seal } = reader.frame(frame);
  return bytesEqual(sealer(reader.header.hash)(reader.readBytes(offsetBytes, storedBytes)), seal);
}

function frameDamaged(reader: ContainerReader, frame: number): DamageError {
  const { offsetBytes } = reader.frame(frame);
  return new DamageError('frame-damaged', 'a frame does not match its seal', { object: reader.path, offsetBytes });
}

function framesWithoutChunks(reader: ContainerReader): number[] {
  const hasChunks = new Uint8Array(reader.footer.frameCount);
  for (const words of chunkPages(reader)) {
    for (let at = 0; at < words.length; at += ENTRY_WORDS) hasChunks[words[at + 8]!] = 1;
  }
  return [...hasChunks.keys()].filter((frame) => hasChunks[frame] === 0);
}
