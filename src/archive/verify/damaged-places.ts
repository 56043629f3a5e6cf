// SPDX-License-Identifier: MIT
// What must not be counted on in containers that were checked, and which record of damage says so.

import { toHex } from '../../base/bytes.js';
import type { ContainerReader } from '../../store/container-reader.js';

const NONE: readonly number[] = [];

/** Of one container. */
export interface DamagedParts {
  /** Numbers of frames, with the records that say so. */
  readonly frames: ReadonlyMap<number, readonly number[]>;
  /** Ids of chunks, in hex. */
  readonly chunks: ReadonlyMap<string, readonly number[]>;
}

class Parts implements DamagedParts {
  readonly frames = new Map<number, number[]>();
  readonly chunks = new Map<string, number[]>();
  /** Records that concern all of the container. */
  readonly whole: number[] = [];
}

export class DamagedPlaces {
  readonly #byPath = new Map<string, Parts>();

  addFrame({ path }: Pick<ContainerReader, 'path'>, frame: number, record: number): void {
    add(this.#parts(path).frames, frame, record);
  }

  addChunk({ path }: Pick<ContainerReader, 'path'>, id: Uint8Array, record: number): void {
    add(this.#parts(path).chunks, toHex(id), record);
  }

  /** Nothing of the container is to be counted on. */
  addWhole(path: string, record: number): void {
    this.#parts(path).whole.push(record);
  }

  #parts(path: string): Parts {
    let parts = this.#byPath.get(path);
    if (parts === undefined) {
      parts = new Parts();
      this.#byPath.set(path, parts);
    }
    return parts;
  }

  /** What is damaged in a container; undefined if nothing is. */
  in(path: string): DamagedParts | undefined {
    return this.#byPath.get(path);
  }

  /** The records that concern a chunk in a frame of a container; none if it can be had there. */
  of(reader: ContainerReader, frame: number, id: Uint8Array): readonly number[] {
    const parts = this.#byPath.get(reader.path);
    if (parts === undefined) return NONE;
    const ofFrame = parts.frames.get(frame) ?? NONE;
    const ofChunk = parts.chunks.size === 0 ? NONE : (parts.chunks.get(toHex(id)) ?? NONE);
    return ofChunk.length + parts.whole.length === 0 ? ofFrame : [...ofFrame, ...ofChunk, ...parts.whole];
  }
}

function add<Key>(map: Map<Key, number[]>, key: Key, record: number): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [record]);
  else list.push(record);
}
