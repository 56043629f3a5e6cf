// SPDX-License-Identifier: MIT
// The fossil record in gc's hands. The caller holds the maintenance lock.
//
// Guarantees: a pack is given out for deletion only when its condemnation was durable before the sessions were listed,
// and none of the sessions listed then lives. Taking a pack out of the record, for whatever reason, is always safe.

import { dirname } from 'node:path';
import { FailedError, VmarError } from '../../base/errors.js';
import { unlessMissing } from '../directory-tree.js';
import { systemCode } from '../fs.js';
import type { PackId } from '../layout.js';
import { liveSessions, type Session, type SessionPlace } from '../session.js';
import { writeDurably } from '../small-file.js';
import { encodeRecord, type FossilRecord } from './fossil-record.js';
import { listMarkers, markerPath, readRecord, recordPath } from './pack-state.js';

/** Packs that are condemned by markers at a time: there is room for little else. */
const MOST_MARKERS = 16;
const NO_ROOM: ReadonlySet<string | undefined> = new Set(['ENOSPC', 'EDQUOT']);

interface OpenGeneration {
  readonly packs: Set<PackId>;
  sessions: readonly string[] | undefined;
}

export class Fossils {
  readonly #place: SessionPlace;
  #session: Session;
  #generations: OpenGeneration[] = [];
  #markers: PackId[] = [];
  /** The record could not be read, and is to be made anew. */
  isDamaged = false;
  /** The generation of this run. */
  #current: OpenGeneration | undefined;
  /** As in the record. */
  marked: ReadonlySet<string> = new Set();
  readonly successors = new Map<PackId, readonly PackId[]>();

  private constructor(place: SessionPlace, session: Session) {
    this.#place = place;
    this.#session = session;
  }

  /** Reads the record. A damaged one counts as empty: whom it named is condemned anew, and all sessions waited for. */
  static async open(place: SessionPlace, session: Session): Promise<Fossils> {
    const fossils = new Fossils(place, session);
    try {
      fossils.#take(await readRecord(place.root));
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      fossils.isDamaged = true;
      place.log.warn(`${error.message} (${error.object ?? place.root}); it is made anew`);
    }
    fossils.#markers = await listMarkers(place.root);
    if (fossils.#markers.length > 0) {
      fossils.#generations.push({ packs: new Set(fossils.#markers), sessions: undefined });
    }
    return fossils;
  }

  #take({ generations, marked, successors }: FossilRecord): void {
    this.#generations = generations.map(({ packs, sessions }) => ({ packs: new Set(packs), sessions }));
    this.marked = marked;
    for (const [from, to] of successors) this.successors.set(from, to);
  }

  /** The session that files are made in from now on. */
  useSession(session: Session): void {
    this.#session = session;
  }

  get condemned(): Set<PackId> {
    return new Set(this.#generations.flatMap(({ packs }) => [...packs]));
  }

  /** The sessions that are waited for. */
  get awaited(): Set<string> {
    return new Set(this.#generations.flatMap(({ sessions }) => sessions ?? []));
  }

  /** Condemned packs that no session can rest on without knowing better. Look at the manifests after this, not before. */
  async ripe(): Promise<Set<PackId>> {
    const live = new Set(await liveSessions(this.#place.root, this.#session.id));
    for (const generation of this.#generations) {
      generation.sessions = (generation.sessions ?? [...live]).filter((id) => live.has(id));
    }
    const ripe = this.#generations.filter(({ sessions }) => sessions?.length === 0);
    return new Set(ripe.flatMap(({ packs }) => [...packs]));
  }

  /** Takes packs out, deleted or reprieved; durable with the next `save`. */
  strike(packs: Iterable<PackId>): void {
    for (const packId of packs) for (const generation of this.#generations) generation.packs.delete(packId);
    this.#generations = this.#generations.filter((generation) => generation.packs.size > 0);
    if (this.#current?.packs.size === 0) this.#current = undefined;
  }

  /**
   * Condemns packs, durably, then lists the sessions, durably. Returns the packs that are condemned now: not all of
   * them on a full disk, where those are to be deleted before the others are tried again.
   * @throws FailedError if nothing can be written.
   */
  async condemn(packs: readonly PackId[]): Promise<readonly PackId[]> {
    this.#current ??= this.#newGeneration();
    const generation = this.#current;
    const before = generation.sessions;
    for (const packId of packs) generation.packs.add(packId);
    // What was condemned before and waits for no one can be deleted no sooner than this: sessions are listed anew.
    generation.sessions = undefined;
    try {
      await this.save();
    } catch (error) {
      this.strike(packs);
      generation.sessions = before;
      if (!isNoRoom(error)) throw error;
      return await this.#condemnByName(packs.slice(0, MOST_MARKERS), error);
    }
    generation.sessions = await liveSessions(this.#place.root, this.#session.id);
    if (generation.sessions.length > 0) await this.save();
    return packs;
  }

  #newGeneration(): OpenGeneration {
    const generation = { packs: new Set<PackId>(), sessions: undefined };
    this.#generations.push(generation);
    return generation;
  }

  /** Empty files take no room where a record does not fit. Without a list of sessions they wait for all there are. */
  async #condemnByName(packs: readonly PackId[], reason: unknown): Promise<readonly PackId[]> {
    const { fs, root } = this.#place;
    try {
      for (const packId of packs) {
        if (this.#markers.includes(packId)) continue;
        await (await fs.createFile(markerPath(root, packId))).close();
        this.#markers.push(packId);
      }
      await fs.fsyncDirectory(dirname(recordPath(root)));
    } catch (error) {
      throw isNoRoom(error) ? reason : error;
    }
    const sessions = await liveSessions(root, this.#session.id);
    this.#generations.push({ packs: new Set(packs), sessions });
    this.#current = undefined;
    return packs;
  }

  /** Makes the record durable as it is now, in one step; markers go once it has what they said. */
  async save(): Promise<void> {
    const { fs, root } = this.#place;
    const path = recordPath(root);
    const temporary = this.#session.temporaryPath('fossils');
    const { marked, successors } = this;
    await writeDurably(fs, temporary, encodeRecord({ generations: this.#generations, marked, successors }));
    await fs.rename(temporary, path);
    await fs.fsyncDirectory(dirname(path));
    this.isDamaged = false;
    const markers = this.#markers;
    this.#markers = [];
    for (const packId of markers) await unlessMissing(fs.unlink(markerPath(root, packId)));
  }
}

/** Also where a session on a full disk has no directory to make files in. */
export function isNoRoom(error: unknown): boolean {
  return NO_ROOM.has(systemCode(error)) || (error instanceof FailedError && error.code === 'read-only');
}
