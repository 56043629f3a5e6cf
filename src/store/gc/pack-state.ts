// SPDX-License-Identifier: MIT
// What a session needs to know of gc: which packs are condemned, and what became of packs that a manifest names.
//
// A session reads it after it holds its lock. Either gc published a condemnation before that, and then the session knows
// and rests nothing on the pack; or it lists this session afterwards, and deletes nothing until it has ended.

import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { NotFoundError, VmarError } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import { storeFailure, systemCode } from '../fs.js';
import { isPackId, type PackId } from '../layout.js';
import { readSmallFile } from '../small-file.js';
import { decodeRecord, EMPTY_RECORD, type FossilRecord, MOST_RECORD_BYTES, manifestKey } from './fossil-record.js';

const MARKER = /^condemned-([0-9a-f]{32})$/;

export function recordPath(root: string): string {
  return join(root, 'state', 'fossils');
}

/** An empty file that condemns a pack by its name alone: all that a full disk takes. */
export function markerPath(root: string, packId: PackId): string {
  return join(root, 'state', `condemned-${packId}`);
}

/** Packs condemned by markers. */
export async function listMarkers(root: string): Promise<PackId[]> {
  const path = join(root, 'state');
  try {
    return (await readdir(path)).flatMap((name) => {
      const packId = MARKER.exec(name)?.[1];
      return packId !== undefined && isPackId(packId) ? [packId] : [];
    });
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw storeFailure(error, 'list the directory', path);
  }
}

/** The record; an empty one if there is none. @throws DamageError if it is damaged. */
export async function readRecord(root: string): Promise<FossilRecord> {
  try {
    return decodeRecord(await readSmallFile(recordPath(root), MOST_RECORD_BYTES), recordPath(root));
  } catch (error) {
    if (error instanceof NotFoundError) return EMPTY_RECORD;
    throw error;
  }
}

/** What is condemned, as far as it can be read. */
export async function condemnedPacks(root: string): Promise<Set<PackId>> {
  try {
    const { generations } = await readRecord(root);
    return new Set([...(await listMarkers(root)), ...generations.flatMap(({ packs }) => [...packs])]);
  } catch (error) {
    if (!(error instanceof VmarError)) throw error;
    return new Set();
  }
}

export class PackState {
  readonly #record: FossilRecord;
  /** undefined: nobody knows, so all of them may be. */
  readonly #condemned: ReadonlySet<PackId> | undefined;

  private constructor(record: FossilRecord, condemned: ReadonlySet<PackId> | undefined) {
    this.#record = record;
    this.#condemned = condemned;
  }

  /** A record that cannot be read costs deduplication, and no backup. */
  static async read(root: string, log: Log): Promise<PackState> {
    try {
      const markers = await listMarkers(root);
      const record = await readRecord(root);
      return new PackState(record, new Set([...markers, ...record.generations.flatMap(({ packs }) => [...packs])]));
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      const what = `${error.message} (${error.object ?? root})`;
      log.warn(`${what}; what is there already may be about to go, so everything is stored anew. Run \`vmar gc\``);
      return new PackState(EMPTY_RECORD, undefined);
    }
  }

  /** Whether nothing new may rest on the pack. */
  isCondemned(packId: PackId): boolean {
    return this.#condemned === undefined || this.#condemned.has(packId);
  }

  /**
   * The packs that have the chunks of a manifest now, for the packs that it names; some may be gone, which is for the
   * caller to see. undefined if some of its chunks may lie in condemned packs only.
   * @param isThere whether there is a pack of that name
   */
  heirsOf(
    packs: readonly PackId[],
    manifestDigest: Uint8Array,
    isThere: (packId: PackId) => boolean,
  ): PackId[] | undefined {
    if (this.#condemned === undefined) return undefined;
    const isMarked = this.#record.marked.has(manifestKey(manifestDigest));
    const heirs = new Set<PackId>();
    const seen = new Set<PackId>();
    const waiting = [...packs];
    for (let packId = waiting.pop(); packId !== undefined; packId = waiting.pop()) {
      if (seen.has(packId)) continue;
      seen.add(packId);
      if (this.#condemned.has(packId)) {
        if (!isMarked) return undefined;
        waiting.push(...(this.#record.successors.get(packId) ?? []));
      } else {
        const successors = isThere(packId) ? undefined : this.#record.successors.get(packId);
        if (successors === undefined) heirs.add(packId);
        else waiting.push(...successors);
      }
    }
    return [...heirs];
  }
}
