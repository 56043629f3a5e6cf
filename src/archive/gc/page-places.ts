// SPDX-License-Identifier: MIT
// Finds and reads map pages for marking: by a table made from the packs' own tables, without the chunk index. A page is
// believed only if it matches its id; any sound copy will do.

import { chunkContext, createHasher, type Hasher, type HashName } from '../../../formats/vmar/hash.js';
import { TABLE_CHUNK_BYTES } from '../../../formats/vmar/trailer.js';
import { bytesEqual, toHex } from '../../base/bytes.js';
import { DamageError, VmarError } from '../../base/errors.js';
import { IdTable, wordsOf } from '../../store/gc/id-table.js';
import { PageCache } from '../../store/page-cache.js';
import { readFrame } from '../chunk-reader.js';
import type { GcPack, GcPacks } from './gc-packs.js';

/** Frames of map pages are 128 KiB: 8 MiB. */
const CACHED_FRAMES = 64;
/** Pack, frame, offset, length. */
const PLACE_WORDS = 4;
const ENTRY_WORDS = TABLE_CHUNK_BYTES / 4;

interface Place {
  readonly frame: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

export class PagePlaces {
  readonly #packs: GcPacks;
  readonly #hash: HashName;
  /** Numbers are places in `#places`, from 1. */
  readonly #table = new IdTable();
  #places = new Uint32Array(PLACE_WORDS << 12);
  #count = 0;
  readonly #frames = new PageCache<Uint8Array>(CACHED_FRAMES);
  readonly #hashers: Hasher[] = [];

  constructor(packs: GcPacks, hash: HashName) {
    this.#packs = packs;
    this.#hash = hash;
  }

  /** Takes in the pages of a pack. */
  addPack(pack: GcPack): void {
    if (pack.content === 'data') return;
    try {
      for (const words of this.#packs.chunkWords(pack)) this.#addEntries(pack, words);
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      this.#packs.setDamaged(pack, error);
    }
  }

  #addEntries(pack: GcPack, words: Uint32Array): void {
    for (let at = 0; at < words.length; at += ENTRY_WORDS) {
      const kind = words[at + 11]!;
      if (kind === 0 || !this.#table.add(words, at)) continue;
      const place = this.#count++ * PLACE_WORDS;
      if (place === this.#places.length) this.#growPlaces();
      this.#places[place] = pack.number;
      for (let word = 1; word < PLACE_WORDS; word++) this.#places[place + word] = words[at + 7 + word]!;
      this.#table.setValue(this.#table.find(words, at), this.#count);
    }
  }

  #growPlaces(): void {
    const places = new Uint32Array(this.#places.length * 2);
    places.set(this.#places);
    this.#places = places;
  }

  /** The page's bytes. @throws DamageError if no sound copy is found. */
  read(id: Uint8Array, level: number): Uint8Array {
    const words = wordsOf(id);
    const slot = this.#table.find(words, 0);
    if (slot >= 0) {
      const at = (this.#table.value(slot) - 1) * PLACE_WORDS;
      const [number, frame, offsetBytes, lengthBytes] = this.#places.subarray(at, at + PLACE_WORDS);
      const pack = this.#packs.byNumber(number!)!;
      try {
        const page = this.#readAt(
          pack,
          { frame: frame!, offsetBytes: offsetBytes!, lengthBytes: lengthBytes! },
          id,
          level,
        );
        if (page !== undefined) return page;
      } catch (error) {
        if (!(error instanceof VmarError)) throw error;
      }
    }
    return this.#readAnywhere(id, level);
  }

  #readAnywhere(id: Uint8Array, level: number): Uint8Array {
    let failure: VmarError | undefined;
    for (const pack of this.#packs.list) {
      try {
        const place = this.#packs.reader(pack).find(id);
        const page = place === undefined ? undefined : this.#readAt(pack, place, id, level);
        if (page !== undefined) return page;
      } catch (error) {
        if (!(error instanceof VmarError)) throw error;
        failure ??= error;
      }
    }
    throw (
      failure ?? new DamageError('chunk-missing', 'a map page is in no pack that can be read', { object: toHex(id) })
    );
  }

  /** undefined if what lies there is not the page. */
  #readAt(pack: GcPack, place: Place, id: Uint8Array, level: number): Uint8Array | undefined {
    const key = `${pack.number}:${place.frame}`;
    let raw = this.#frames.get(key);
    if (raw === undefined) {
      const reader = this.#packs.reader(pack);
      raw = readFrame(reader, reader.frame(place.frame));
      this.#frames.set(key, raw);
    }
    const page = raw.subarray(place.offsetBytes, place.offsetBytes + place.lengthBytes);
    const isSound = page.byteLength === place.lengthBytes && page.byteLength % 32 === 0;
    return isSound && bytesEqual(this.#hasher(level).digest(page), id) ? page : undefined;
  }

  #hasher(level: number): Hasher {
    this.#hashers[level] ??= createHasher(this.#hash, chunkContext(level));
    return this.#hashers[level]!;
  }
}
