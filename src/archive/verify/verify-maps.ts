// SPDX-License-Identifier: MIT
// Reachability: every chunk that a backup's maps name is in a good place, of the right kind and length. Pages that
// several backups share are walked once, and what was found below a page is told to all who share it.

import type { ManifestDisk } from '../../../formats/vmar/manifest.js';
import { pageEntries } from '../../../formats/vmar/map.js';
import { DamageError, type VmarError } from '../../base/errors.js';
import { ChunkReader } from '../chunk-reader.js';
import type { ChunkSource } from '../chunk-source.js';
import { isZeroId, type MapPage, MapReader } from '../map-reader.js';
import { type Checked, chunkKey, type DamageList } from './damage.js';
import type { GoodPlaces, Wanted } from './good-places.js';

const CLEAN: readonly number[] = [];

export interface DiskToVerify {
  /** Full id of the backup. */
  readonly backup: string;
  /** The file that names the disk's map: the manifest, or the archive. */
  readonly file: string;
  readonly disk: ManifestDisk;
  readonly fanout: number;
  /** Records to hold for chunks that are nowhere: of packs that are gone or cannot be read. */
  readonly suspects: () => readonly number[];
}

/** To find damage, or only to name those whom the damage that is known concerns: then nothing is counted or added. */
export type MapPurpose = 'find' | 'name';

export class MapVerifier {
  readonly #places: GoodPlaces;
  readonly #chunks: ChunkReader;
  readonly #damage: DamageList;
  readonly #checked: Checked;
  readonly #purpose: MapPurpose;
  /** Pages under which all is well, by id. */
  readonly #clean = new Set<string>();
  /** Pages with damage in or below them. */
  readonly #touched = new Map<string, readonly number[]>();
  /** Records of what a disk misses, by disk. */
  readonly #missingOf = new Map<string, number>();

  constructor(
    source: ChunkSource,
    places: GoodPlaces,
    damage: DamageList,
    checked: Checked,
    purpose: MapPurpose = 'find',
  ) {
    this.#places = places;
    this.#purpose = purpose;
    this.#chunks = new ChunkReader(source);
    this.#damage = damage;
    this.#checked = checked;
  }

  /** Walks the map of one disk and marks whatever damage it meets with the backup's name. */
  async verifyDisk(wish: DiskToVerify): Promise<void> {
    const { backup, disk, fanout } = wish;
    const { mapRoot: root, sizeBytes, clusterSizeBytes } = disk;
    const map = new MapReader(this.#chunks, { root, sizeBytes, clusterSizeBytes, fanout });
    const walk: Walk = { ...wish, map, name: `${backup}:${disk.name}` };
    if (this.#purpose === 'find') this.#checked.disks++;
    if (map.levels === 0) return;
    for (const index of await this.#page(walk, map.levels, 0, root)) this.#damage.touch(index, backup, disk.name);
  }

  /** The damage in a page and below it. */
  async #page(walk: Walk, level: number, index: number, id: Uint8Array): Promise<readonly number[]> {
    if (isZeroId(id)) return CLEAN;
    const { map, disk } = walk;
    // A last, shorter chunk makes a page mean something else at another place or length of disk.
    const isLast = (index + 1) * map.fanout ** level >= map.clusters;
    const key = isLast ? `${chunkKey(id)}${level}:${index}:${disk.sizeBytes}` : `${chunkKey(id)}${level}`;
    if (this.#clean.has(key)) return CLEAN;
    const known = this.#touched.get(key);
    if (known !== undefined) return known;
    const found = await this.#walkPage(walk, level, index, id);
    if (found.length === 0) this.#clean.add(key);
    else this.#touched.set(key, found);
    return found;
  }

  async #walkPage(walk: Walk, level: number, index: number, id: Uint8Array): Promise<readonly number[]> {
    const { map } = walk;
    if (this.#purpose === 'find') this.#checked.mapPages++;
    const lengthBytes = pageEntries(level, index, map.clusters, map.fanout) * 32;
    const found = new Set(await this.#find(walk, { id, kind: level, lengthBytes }, `page ${index} of level ${level}`));
    const page = await this.#read(walk, level, index, id, found);
    const children = page === 'zero' ? 0 : page.byteLength / 32;
    for (let child = 0; child < children; child++) {
      if (page === 'zero') break;
      const number = index * map.fanout + child;
      const below = page.subarray(child * 32, child * 32 + 32);
      const damage =
        level > 1 ? await this.#page(walk, level - 1, number, below) : await this.#cluster(walk, number, below);
      for (const record of damage) found.add(record);
    }
    return [...found];
  }

  /** The page's content; 'zero' if it cannot be had, which `found` says then. */
  async #read(walk: Walk, level: number, index: number, id: Uint8Array, found: Set<number>): Promise<MapPage> {
    try {
      return await walk.map.page(level, index);
    } catch (error) {
      if (!(error instanceof DamageError)) throw error;
      if (found.size === 0 && this.#purpose === 'find') found.add(this.#unreadable(walk, id, error));
      return 'zero';
    }
  }

  /** Its frame was not read before: this is a quick check. Or the map is not what it must be. */
  #unreadable(walk: Walk, id: Uint8Array, error: VmarError): number {
    const file = error.object ?? walk.file;
    const offsetBytes = error.offsetBytes ?? 0;
    const known = this.#damage.at(file, offsetBytes);
    if (known !== undefined) {
      this.#damage.attach(known, id);
      return known;
    }
    const problem = `${error.message} (needed by ${walk.name})`;
    return this.#damage.add({ file, offsetBytes, lengthBytes: 0, kind: 'map-page', problem }, [id]);
  }

  async #cluster(walk: Walk, cluster: number, id: Uint8Array): Promise<readonly number[]> {
    if (isZeroId(id)) return CLEAN;
    const { sizeBytes, clusterSizeBytes } = walk.disk;
    const lengthBytes = Math.min(clusterSizeBytes, sizeBytes - cluster * clusterSizeBytes);
    return await this.#find(walk, { id, kind: 0, lengthBytes }, `cluster ${cluster}`);
  }

  async #find(walk: Walk, wanted: Wanted, what: string): Promise<readonly number[]> {
    const found = await this.#places.look(wanted);
    if (found === 'good') return CLEAN;
    if (found.length > 0 || this.#purpose === 'name') return found;
    const suspects = walk.suspects();
    return suspects.length > 0 ? suspects : [this.#missing(walk, what)];
  }

  /** One record for all that a disk misses. */
  #missing(walk: Walk, what: string): number {
    let index = this.#missingOf.get(walk.name);
    if (index === undefined) {
      const problem = `${what} of ${walk.name} is nowhere`;
      index = this.#damage.add({ file: walk.file, offsetBytes: 0, lengthBytes: 0, kind: 'missing-chunk', problem });
      this.#missingOf.set(walk.name, index);
    }
    return index;
  }
}

interface Walk extends DiskToVerify {
  readonly map: MapReader;
  readonly name: string;
}
