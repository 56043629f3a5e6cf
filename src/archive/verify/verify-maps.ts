// SPDX-License-Identifier: MIT
// Reachability: every chunk that a backup's maps name is in a good place, of the right kind and length. Pages that
// several backups share are walked once, and what was found below a page is told to all who share it.

import type { ManifestDisk } from '../../../formats/vmar/manifest.js';
import { pageEntries } from '../../../formats/vmar/map.js';
import { DamageError, type VmarError } from '../../base/errors.js';
import { chunkKey } from '../chunk-key.js';
import { ChunkReader } from '../chunk-reader.js';
import { isZeroId, type MapPage, MapReader } from '../map-reader.js';
import type { Checked, DamageList } from './damage.js';
import type { GoodPlaces, Wanted } from './good-places.js';

const CLEAN: readonly number[] = [];
/** Of a page that was walked: the damage in and below it; 'unknown' while chunks have to be looked for. */
type Found = readonly number[] | 'unknown';

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
  readonly #letOthersRun: () => Promise<void>;
  /** Pages under which all is well, by id. */
  readonly #clean = new Set<string>();
  /** Pages with damage in or below them. */
  readonly #touched = new Map<string, readonly number[]>();
  /** Pages that wait for a pass, and for which. */
  readonly #waiting = new Map<string, number>();
  /** Records of what a disk misses, by disk. */
  readonly #missingOf = new Map<string, number>();

  /** @param letOthersRun called for each page; what it throws ends the walk */
  constructor(
    places: GoodPlaces,
    damage: DamageList,
    checked: Checked,
    letOthersRun: () => Promise<void>,
    purpose: MapPurpose = 'find',
  ) {
    this.#places = places;
    this.#purpose = purpose;
    this.#letOthersRun = letOthersRun;
    this.#chunks = new ChunkReader(places.lost);
    this.#damage = damage;
    this.#checked = checked;
  }

  /**
   * Walks the map of one disk and marks whatever damage it meets with the backup's name.
   * @returns false if chunks have to be looked for first; then it is to be walked again
   */
  async verifyDisk(wish: DiskToVerify): Promise<boolean> {
    const { backup, disk, fanout } = wish;
    const { mapRoot: root, sizeBytes, clusterSizeBytes } = disk;
    const map = new MapReader(this.#chunks, { root, sizeBytes, clusterSizeBytes, fanout });
    const walk: Walk = { ...wish, map, name: `${backup}:${disk.name}` };
    const found = map.levels === 0 ? CLEAN : await this.#page(walk, map.levels, 0, root);
    if (found === 'unknown') return false;
    if (this.#purpose === 'find') this.#checked.disks++;
    for (const index of found) this.#damage.touch(index, backup, disk.name);
    return true;
  }

  /** The damage in a page and below it. */
  async #page(walk: Walk, level: number, index: number, id: Uint8Array): Promise<Found> {
    if (isZeroId(id)) return CLEAN;
    const { map, disk } = walk;
    // A last, shorter chunk makes a page mean something else at another place or length of disk.
    const isLast = (index + 1) * map.fanout ** level >= map.clusters;
    const key = isLast ? `${chunkKey(id)}${level}:${index}:${disk.sizeBytes}` : `${chunkKey(id)}${level}`;
    if (this.#clean.has(key)) return CLEAN;
    const known = this.#touched.get(key);
    if (known !== undefined) return known;
    const { lost } = this.#places;
    if (lost.isFull || this.#waiting.get(key) === lost.nextPass) return 'unknown';
    const found = await this.#walkPage(walk, level, index, id);
    if (found === 'unknown') {
      // All that is below is asked for, unless there was no room for it.
      if (!lost.isFull) this.#waiting.set(key, lost.nextPass);
      return found;
    }
    this.#waiting.delete(key);
    if (this.#purpose === 'find') this.#checked.mapPages++;
    if (found.length === 0) this.#clean.add(key);
    else this.#touched.set(key, found);
    return found;
  }

  async #walkPage(walk: Walk, level: number, index: number, id: Uint8Array): Promise<Found> {
    const { map } = walk;
    await this.#letOthersRun();
    const lengthBytes = pageEntries(level, index, map.clusters, map.fanout) * 32;
    const ofPage = await this.#find(walk, { id, kind: level, lengthBytes }, `page ${index} of level ${level}`);
    if (ofPage === 'unknown') return ofPage;
    const found = new Set(ofPage);
    const page = await this.#read(walk, level, index, id, found);
    const children = page === 'zero' ? 0 : page.byteLength / 32;
    let isKnown = true;
    for (let child = 0; child < children; child++) {
      if (page === 'zero') break;
      const number = index * map.fanout + child;
      const below = page.subarray(child * 32, child * 32 + 32);
      const damage =
        level > 1 ? await this.#page(walk, level - 1, number, below) : await this.#cluster(walk, number, below);
      if (damage === 'unknown') isKnown = false;
      else for (const record of damage) found.add(record);
    }
    return isKnown ? [...found] : 'unknown';
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

  async #cluster(walk: Walk, cluster: number, id: Uint8Array): Promise<Found> {
    if (isZeroId(id)) return CLEAN;
    const { sizeBytes, clusterSizeBytes } = walk.disk;
    const lengthBytes = Math.min(clusterSizeBytes, sizeBytes - cluster * clusterSizeBytes);
    return await this.#find(walk, { id, kind: 0, lengthBytes }, `cluster ${cluster}`);
  }

  async #find(walk: Walk, wanted: Wanted, what: string): Promise<Found> {
    const found = await this.#places.look(wanted);
    if (found === 'good') return CLEAN;
    if (found === 'unknown' || found.length > 0 || this.#purpose === 'name') return found;
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
