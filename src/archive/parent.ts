// SPDX-License-Identifier: MIT
// The parent of a new backup: the guest's latest, if what it rests on is still there.

import type { Manifest } from '../../formats/vmar/manifest.js';
import { VmarError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import type { BackupDescription } from '../plugin-api.js';
import type { PackId } from '../store/layout.js';
import { ChunkReader } from './chunk-reader.js';
import type { DatastoreChunks } from './datastore-chunks.js';
import { type MapPage, MapReader, type MapShape } from './map-reader.js';
import type { ParentDamage } from './parent-damage.js';

export interface Parent {
  readonly manifest: Manifest;
  readonly digest: Uint8Array;
  /** The packs that have its chunks now; undefined if some may lie in packs that are about to be deleted. */
  readonly packs: readonly PackId[] | undefined;
}

/**
 * For each disk of the new backup the map of the same disk in the parent; undefined where it is not the same disk to
 * compare with (another length, another cluster size), or where not all of the parent's packs are to be had: then
 * every chunk is looked up, and stored anew if it must be.
 */
export async function parentMaps(
  chunks: DatastoreChunks,
  parent: Parent | undefined,
  damage: ParentDamage,
  backup: BackupDescription,
  clusterSizeBytes: number,
  log: Log,
): Promise<(MapReader | undefined)[]> {
  if (parent === undefined || !restsOnSoundPacks(chunks, parent, damage, log)) return backup.disks.map(() => undefined);
  const reader = new ChunkReader(chunks);
  const { hash, mapFanout } = parent.manifest;
  return await Promise.all(
    backup.disks.map(async (disk) => {
      const same = parent.manifest.disks.find((candidate) => candidate.name === disk.name);
      if (same?.kind !== disk.kind || same.sizeBytes !== disk.sizeBytes || same.sizeBytes === 0) return undefined;
      if (same.clusterSizeBytes !== clusterSizeBytes || hash !== chunks.hash) return undefined;
      const shape = { root: same.mapRoot, sizeBytes: same.sizeBytes, clusterSizeBytes, fanout: mapFanout };
      const map = new ParentMap(reader, shape, disk.name, log);
      return (await isReadable(map)) ? map : undefined;
    }),
  );
}

/** Tells of the first page that turns out damaged. */
class ParentMap extends MapReader {
  readonly #disk: string;
  readonly #log: Log;
  #isTold = false;

  constructor(chunks: ChunkReader, shape: MapShape, disk: string, log: Log) {
    super(chunks, shape);
    this.#disk = disk;
    this.#log = log;
  }

  override async page(level: number, index: number): Promise<MapPage> {
    try {
      return await super.page(level, index);
    } catch (error) {
      if (error instanceof VmarError && !this.#isTold) {
        this.#isTold = true;
        const what = `the previous map of disk ${this.#disk} is not used further, since it is damaged`;
        this.#log.warn(`${what}: ${error.message} (see \`vmar verify\`)`);
      }
      throw error;
    }
  }
}

/** Whether the root page is good; damage further down is met later, and ends the backup's use of the parent. */
async function isReadable(map: MapReader): Promise<boolean> {
  try {
    await map.page(map.levels, 0);
    return true;
  } catch (error) {
    if (error instanceof VmarError) return false;
    throw error;
  }
}

function restsOnSoundPacks(chunks: DatastoreChunks, parent: Parent, damage: ParentDamage, log: Log): boolean {
  if (parent.packs === undefined) {
    log.info('the previous backup is not used for comparison: `vmar gc` has not looked at it yet');
    return false;
  }
  if (damage.fault !== undefined) {
    log.warn(`the previous backup is not used for comparison: ${damage.fault}; what it has of this one is stored anew`);
    return false;
  }
  const missing = parent.packs.find((packId) => chunks.pack(packId) === undefined);
  if (missing === undefined) return true;
  log.warn(
    `the previous backup is not used for comparison: its pack ${missing} is gone or damaged (see \`vmar verify\`)`,
  );
  return false;
}
