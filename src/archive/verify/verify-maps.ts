// SPDX-License-Identifier: MIT
// Reachability: every chunk that a backup's maps name is in a good place, of the right kind and length. Pages that
// several backups share are walked once, and what was found below a page is told to all who share it.

import { DamageError, VmarError } from '../../base/errors.js';
import type { ManifestDisk } from '../../../formats/vmar/manifest.js';
import type { ChunkPlace, ChunkSource } from '../chunk-source.js';
import { ChunkReader } from '../chunk-reader.js';
import { isZeroId, MapReader } from '../map-reader.js';
import { type Checked, chunkKey, type DamageList } from './damage.js';
import type { DamagedPlaces } from './verify-container.js';

const CLEAN: readonly number[] = [];

export interface DiskToVerify {
  /** Full id of the backup. */
  readonly backup: string;
  /** Where to say that chunks are missing: a pack that is gone if that is known, else the manifest. */
  readonly missingFile: string;
  readonly disk: ManifestDisk;
  readonly fanout: number;
}

export class MapVerifier {
  readonly #source: ChunkSource;
  readonly #chunks: ChunkReader;
  readonly #damagedPlaces: DamagedPlaces;
  readonly #damage: DamageList;
  readonly #checked: Checked;
  /** Pages under which all is well, by id. */
  readonly #clean = new Set<string>();
  /** Pages with damage in or below them. */
  readonly #touched = new Map<string, readonly number[]>();
  /** Records of what a disk misses, by disk and file. */
  readonly #missingOf = new Map<string, number>();
  /** Chunks that were looked for everywhere, in vain. */
  readonly #knownMissing = new Set<string>();

  constructor(source: ChunkSource, damagedPlaces: DamagedPlaces, damage: DamageList, checked: Checked) {
    this.#source = source;
    this.#chunks = new ChunkReader(source);
    this.#damagedPlaces = damagedPlaces;
    this.#damage = damage;
    this.#checked = checked;
  }

  /** Walks the map of one disk and marks whatever damage it meets with the backup's name. */
  async verifyDisk({ backup, missingFile, disk, fanout }: DiskToVerify): Promise<void> {
    const shape = { root: disk.mapRoot, sizeBytes: disk.sizeBytes, clusterSizeBytes: disk.clusterSizeBytes, fanout };
    const map = new MapReader(this.#chunks, shape);
    const walk: Walk = { map, disk, missingFile, name: `${backup}:${disk.name}` };
    this.#checked.disks++;
    if (map.levels === 0) return;
    for (const index of await this.#page(walk, map.levels, 0)) this.#damage.touch(index, backup, disk.name);
  }

  /** The damage in a page and below it. */
  async #page(walk: Walk, level: number, index: number): Promise<readonly number[]> {
    const { map } = walk;
    const id = await map.pageId(level, index);
    if (isZeroId(id)) return CLEAN;
    // A last, shorter chunk makes a page mean something else at another place or length of disk.
    const isLast = (index + 1) * map.fanout ** level >= map.clusters;
    const key = isLast ? `${chunkKey(id)}${level}:${index}:${walk.disk.sizeBytes}` : `${chunkKey(id)}${level}`;
    if (this.#clean.has(key)) return CLEAN;
    const known = this.#touched.get(key);
    if (known !== undefined) return known;
    const found = await this.#walkPage(walk, level, index, id);
    if (found.length === 0) this.#clean.add(key);
    else this.#touched.set(key, found);
    return found;
  }

  async #walkPage(walk: Walk, level: number, index: number, id: Uint8Array): Promise<readonly number[]> {
    this.#checked.mapPages++;
    const { map } = walk;
    let page: Uint8Array | 'zero';
    try {
      page = await map.page(level, index);
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      return this.#unreadable(walk, id, error);
    }
    const found = new Set<number>();
    const children = page === 'zero' ? 0 : page.byteLength / 32;
    for (let child = 0; child < children; child++) {
      const number = index * map.fanout + child;
      if (level > 1) for (const damage of await this.#page(walk, level - 1, number)) found.add(damage);
      else if (page !== 'zero') {
        const chunk = page.subarray(child * 32, child * 32 + 32);
        if (!isZeroId(chunk)) for (const damage of await this.#chunk(walk, chunk, number)) found.add(damage);
      }
    }
    return [...found];
  }

  #unreadable(walk: Walk, id: Uint8Array, error: VmarError): readonly number[] {
    const known = this.#damage.of(id);
    if (known.length > 0) return known;
    if (error.code === 'chunk-missing') return [this.#missing(walk, id, 'a map page')];
    const file = error.object ?? walk.missingFile;
    const problem = `${error.message} (needed by ${walk.name})`;
    const record = { file, offsetBytes: error.offsetBytes ?? 0, lengthBytes: 0, kind: 'map-page' as const, problem };
    return [this.#damage.add(record, [id])];
  }

  async #chunk(walk: Walk, id: Uint8Array, cluster: number): Promise<readonly number[]> {
    const { sizeBytes, clusterSizeBytes } = walk.disk;
    const lengthBytes = Math.min(clusterSizeBytes, sizeBytes - cluster * clusterSizeBytes);
    const first = this.#source.locate(id);
    if (first !== undefined && this.#fits(first, id, lengthBytes)) return CLEAN;
    const known = this.#damage.of(id);
    if (this.#knownMissing.has(chunkKey(id))) return known;
    const all = await this.#source.locateAll(id);
    if (all.some((place) => this.#fits(place, id, lengthBytes))) return CLEAN;
    return known.length > 0 ? known : [this.#missing(walk, id, `cluster ${cluster}`)];
  }

  /** One record for all that a disk misses. */
  #missing(walk: Walk, id: Uint8Array, what: string): number {
    const key = `${walk.name} ${walk.missingFile}`;
    let index = this.#missingOf.get(key);
    if (index === undefined) {
      const problem = `${what} of ${walk.name} is in no pack`;
      const record = { file: walk.missingFile, offsetBytes: 0, lengthBytes: 0, kind: 'missing-chunk' as const, problem };
      index = this.#damage.add(record);
      this.#missingOf.set(key, index);
    }
    this.#damage.attach(index, id);
    this.#knownMissing.add(chunkKey(id));
    return index;
  }

  /** The container's own table has the chunk there, as data of that length, and nothing was found wrong with it. */
  #fits(place: ChunkPlace, id: Uint8Array, lengthBytes: number): boolean {
    const { container } = place;
    try {
      const entry = container.find(id);
      if (entry === undefined || entry.kind !== 0 || entry.lengthBytes !== lengthBytes) return false;
      return !this.#damagedPlaces.has(container, entry.frame, id);
    } catch (error) {
      if (error instanceof DamageError) return false;
      throw error;
    }
  }
}

interface Walk {
  readonly map: MapReader;
  readonly disk: ManifestDisk;
  readonly missingFile: string;
  readonly name: string;
}
