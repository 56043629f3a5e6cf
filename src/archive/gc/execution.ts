// SPDX-License-Identifier: MIT
// Carries a plan out: condemns, deletes, rewrites, each step durable before the next that relies on it.

import { FailedError } from '../../base/errors.js';
import type { Datastore } from '../../store/datastore.js';
import { unlessMissing } from '../../store/directory-tree.js';
import { type Fossils, isNoRoom } from '../../store/gc/fossils.js';
import { type PackId, packDirectory, packPath } from '../../store/layout.js';
import { PACK_BYTES, PACK_CHUNKS } from '../../store/pack-stream.js';
import type { Session } from '../../store/session.js';
import { createMachine, type Machine } from '../machine.js';
import { PackRoom } from '../pack-room.js';
import { GcIndex } from './gc-index.js';
import type { GcPack } from './gc-packs.js';
import { isDead, type Plan, type PlannedPack } from './plan.js';
import { rewrite } from './rewrite.js';
import type { Survey, SurveyOptions } from './survey.js';

export interface Tally {
  packs: number;
  bytes: number;
}

export interface ExecutionOptions extends SurveyOptions {
  /** Threads for what is compressed anew; one a core by default, 0 for none. */
  readonly workers?: number;
}

/** gc writes no backups of its own. */
const WRITER_ID = new Uint8Array(16);

export class Execution {
  readonly deleted: Tally = { packs: 0, bytes: 0 };
  readonly rewritten: Tally = { packs: 0, bytes: 0 };
  readonly written: Tally = { packs: 0, bytes: 0 };
  readonly reprieved: Tally = { packs: 0, bytes: 0 };
  session: Session;
  readonly #store: Datastore;
  readonly #fossils: Fossils;
  readonly #survey: Survey;
  readonly #options: ExecutionOptions;
  readonly #index: GcIndex;
  #machine: Machine | undefined;

  constructor(store: Datastore, session: Session, fossils: Fossils, survey: Survey, options: ExecutionOptions) {
    this.#store = store;
    this.session = session;
    this.#fossils = fossils;
    this.#survey = survey;
    this.#options = options;
    this.#index = new GcIndex(store, survey.packs, survey.marks);
  }

  /**
   * @param ripe fossils that may be deleted, if nobody needs them: asked for before the manifests were listed
   */
  async run(plan: Plan, ripe: ReadonlySet<PackId>): Promise<void> {
    const { onMore } = this.#options;
    onMore?.(plan.rewrite.reduce((sum, { pack }) => sum + pack.fileBytes, 0));
    const wasCondemned = this.#fossils.condemned;
    this.#fossils.marked = new Set(this.#survey.marks.manifests);
    await this.#settleFossils(ripe);
    await this.#condemn(plan.dead);
    for (const batch of batchesOf(plan.rewrite)) await this.#rewrite(batch);
    await this.#tidyRecord(wasCondemned.size > 0 || this.#fossils.condemned.size > 0);
  }

  /** What earlier runs condemned: what is needed after all is reprieved, the rest goes once it is ripe. */
  async #settleFossils(ripe: ReadonlySet<PackId>): Promise<void> {
    const { packs, copies } = this.#survey;
    const fossils = [...this.#fossils.condemned];
    this.#fossils.strike(fossils.filter((id) => packs.get(id) === undefined && !packs.unreadable.has(id)));
    const there = fossils.flatMap((id) => packs.get(id) ?? []);
    this.#reprieve(there.filter((pack) => !isDead(pack)));
    const canGo = (pack: GcPack): boolean => pack.isBroken || !packs.isDamaged(pack);
    const ready = there.filter((pack) => isDead(pack) && ripe.has(pack.id) && canGo(pack));
    const going = copies.whichMayGo(ready);
    this.#reprieve(ready.filter((pack) => !going.includes(pack)));
    await this.#delete(going);
  }

  /** Condemns packs that nobody needs anything of any more, and deletes them if nobody can rest on them. */
  async #condemn(packs: readonly GcPack[]): Promise<readonly GcPack[]> {
    const { copies } = this.#survey;
    const condemned = copies.whichMayGo(packs);
    for (let left = condemned; left.length > 0; ) {
      for (const pack of left) {
        this.#fossils.successors.set(
          pack.id,
          copies.homesOf(pack).map(({ id }) => id),
        );
      }
      const named = new Set(await this.#fossils.condemn(left.map(({ id }) => id)));
      const deletedAny = await this.#deleteRipe(left.filter(({ id }) => named.has(id)));
      left = left.filter(({ id }) => !named.has(id));
      if (left.length > 0 && !deletedAny) throw noRoom(this.#store.root, 'other commands may rest on what could go');
      if (left.length > 0) await this.#settleIn();
    }
    return condemned;
  }

  /** There is room again: a session that began without a directory gets one. */
  async #settleIn(): Promise<void> {
    if (this.session.hasTmpDir) return;
    const session = await this.#store.beginSession('maintenance');
    await this.session.end();
    this.session = session;
    this.#fossils.useSession(session);
  }

  /** Deletes those of the condemned packs that no session can rest on. Returns whether there were any. */
  async #deleteRipe(condemned: readonly GcPack[]): Promise<boolean> {
    const ripe = await this.#fossils.ripe();
    let going = condemned.filter(({ id }) => ripe.has(id));
    if (going.length === 0) return false;
    // After the sessions: whoever has ended by now has committed what it was to commit.
    if (await this.#survey.markNew()) {
      const ready = going;
      going = this.#survey.copies.whichMayGo(ready);
      this.#reprieve(ready.filter((pack) => !going.includes(pack)));
    }
    await this.#delete(going);
    return going.length > 0;
  }

  /** Durable with the next save; until then nobody rests on the pack, and nobody deletes it. */
  #reprieve(packs: readonly GcPack[]): void {
    this.#fossils.strike(packs.map(({ id }) => id));
    for (const pack of packs) {
      this.#fossils.successors.delete(pack.id);
      count(this.reprieved, pack);
    }
  }

  /** Names first, durably; then the record may forget them. */
  async #delete(packs: readonly GcPack[]): Promise<void> {
    const { fs, root } = this.#store;
    const directories = new Set(packs.map(({ id }) => packDirectory(root, id)));
    for (const pack of packs) {
      // Open until the index has been told, which wants the table.
      const reader = pack.isBroken ? undefined : this.#survey.packs.reader(pack);
      await unlessMissing(fs.unlink(packPath(root, pack.id)));
      await this.#index.removePack(pack, reader);
      this.#survey.packs.close(pack);
      this.#survey.packs.forget(pack);
      count(this.deleted, pack);
    }
    for (const directory of directories) await fs.fsyncDirectory(directory);
    this.#fossils.strike(packs.map(({ id }) => id));
  }

  async #rewrite(batch: readonly GcPack[]): Promise<void> {
    if (!this.session.hasTmpDir) throw noRoom(this.#store.root, 'there is no room to rewrite packs');
    const { packs, marks, homes } = this.#survey;
    const { workers, signal, onProgress = () => {} } = this.#options;
    const { hash, clusterSizeBytes } = this.#store.superblock;
    const threads = workers === undefined ? {} : { workers };
    this.#machine ??= createMachine({ hash, level: 1, clusterSizeBytes, ...threads });
    const place = new PackRoom(this.#store, this.session, WRITER_ID, async (packId, pages, seal) => {
      await this.#index.addPack(packId, pages, seal);
    });
    const machine = this.#machine;
    const manifestFile = (key: string): string | undefined => marks.files.get(key);
    const made = await rewrite(batch, { packs, marks, homes, machine, place, signal, onProgress, manifestFile });
    for (const pack of made) count(this.written, pack);
    for (const pack of await this.#condemn(batch.filter((source) => !packs.isDamaged(source))))
      count(this.rewritten, pack);
  }

  /** Forgets successors that nobody asks for, and makes the record durable as it is now. */
  async #tidyRecord(isChanged: boolean): Promise<void> {
    const { successors } = this.#fossils;
    const wanted = new Set<PackId>();
    const waiting = [...this.#survey.marks.named, ...this.#fossils.condemned];
    for (let packId = waiting.pop(); packId !== undefined; packId = waiting.pop()) {
      if (wanted.has(packId)) continue;
      wanted.add(packId);
      waiting.push(...(successors.get(packId) ?? []));
    }
    const idle = [...successors.keys()].filter((packId) => !wanted.has(packId));
    for (const packId of idle) successors.delete(packId);
    if (idle.length === 0 && !isChanged && this.deleted.packs === 0 && !this.#fossils.isDamaged) return;
    try {
      if (this.deleted.packs > 0) await this.#settleIn();
      await this.#fossils.save();
    } catch (error) {
      if (!isNoRoom(error)) throw error;
      // It names packs that are gone, which misleads nobody.
      this.#store.log.warn('the record of condemned packs could not be brought up to date: no space is left');
    }
  }

  async end(): Promise<void> {
    await this.#machine?.close();
    await this.session.end();
  }
}

/** Packs of one content that make about one pack together; a small one by itself is as good as it gets. */
export function* batchesOf(planned: readonly PlannedPack[]): Generator<GcPack[]> {
  let batch: PlannedPack[] = [];
  const close = (): GcPack[] => {
    const closed = batch;
    batch = [];
    return closed.length === 1 && closed[0]?.fate === 'small' ? [] : closed.map(({ pack }) => pack);
  };
  for (const next of planned) {
    const bytes = batch.reduce((sum, { pack }) => sum + pack.liveBytes, next.pack.liveBytes);
    const chunks = batch.reduce((sum, { pack }) => sum + pack.liveChunks, next.pack.liveChunks);
    const isFull = bytes > PACK_BYTES || chunks > PACK_CHUNKS || batch[0]?.pack.content !== next.pack.content;
    if (batch.length > 0 && isFull) {
      const closed = close();
      if (closed.length > 0) yield closed;
    }
    batch.push(next);
  }
  const closed = close();
  if (closed.length > 0) yield closed;
}

function count(tally: Tally, pack: GcPack): void {
  tally.packs++;
  tally.bytes += pack.fileBytes;
}

function noRoom(root: string, why: string): FailedError {
  return new FailedError('no-space', `no space is left on the device, and ${why}`, {
    object: root,
    advice: 'Free space there, or run `vmar gc` again when the other commands have ended.',
  });
}
