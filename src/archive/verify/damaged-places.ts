// SPDX-License-Identifier: MIT
// What must not be counted on in containers that were checked, and which record of damage says so.

import type { ContainerReader } from '../../store/container-reader.js';
import { chunkKey } from './damage.js';

const NONE: readonly number[] = [];

export class DamagedPlaces {
  readonly #records = new Map<string, number[]>();

  addFrame(reader: ContainerReader, frame: number, record: number): void {
    this.#add(`${frame}@${reader.path}`, record);
  }

  addChunk(reader: ContainerReader, id: Uint8Array, record: number): void {
    this.#add(`${chunkKey(id)}@${reader.path}`, record);
  }

  #add(key: string, record: number): void {
    const list = this.#records.get(key);
    if (list === undefined) this.#records.set(key, [record]);
    else list.push(record);
  }

  /** The records that concern a chunk in a frame of a container; none if it can be had there. */
  of(reader: ContainerReader, frame: number, id: Uint8Array): readonly number[] {
    if (this.#records.size === 0) return NONE;
    const ofFrame = this.#records.get(`${frame}@${reader.path}`) ?? NONE;
    const ofChunk = this.#records.get(`${chunkKey(id)}@${reader.path}`) ?? NONE;
    return ofChunk.length === 0 ? ofFrame : [...ofFrame, ...ofChunk];
  }
}
