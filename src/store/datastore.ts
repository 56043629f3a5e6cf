// SPDX-License-Identifier: MIT
// A datastore that is open: what its superblock says, where its parts are, and the chunk index when it is wanted.

import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { checkFeatures } from '../../formats/vmar/features.js';
import { decodeSuperblock, type Superblock } from '../../formats/vmar/superblock.js';
import { bytesEqual } from '../base/bytes.js';
import { DamageError, FailedError, NotFoundError, VmarError } from '../base/errors.js';
import { type Log, SILENT } from '../base/log.js';
import type { ChunkIndex, PacksForIndex } from './chunk-index.js';
import { ContainerReader } from './container-reader.js';
import { readDamage } from './damage-list.js';
import type { StoreFs } from './fs.js';
import { condemnedPacks } from './gc/pack-state.js';
import { type PackId, packPath, superblockPath } from './layout.js';
import { fsOfDatastore } from './real-fs.js';
import { Session, type SessionKind } from './session.js';
import { readSmallFile } from './small-file.js';
import { listPacks, readPackTable } from './stored-packs.js';

/** A superblock is some hundred bytes; damage must not make us read a whole disk. */
const MOST_SUPERBLOCK_BYTES = 1 << 20;
/** In search of one that tells what the superblock said. */
const MOST_PACKS_TRIED = 16;

/** Who reads more backups than that (a copy, not a diff) is better served with all packs at once. */
const MOST_PORTIONS = 2;

export interface DatastoreOptions {
  /** Where hosts keep what can be made again; the index lies in a directory of its own in it. */
  readonly cacheDir: string;
  readonly fs?: StoreFs;
  readonly log?: Log;
}

export class Datastore {
  readonly root: string;
  readonly superblock: Superblock;
  readonly cacheDir: string;
  readonly fs: StoreFs;
  readonly log: Log;
  #index: Promise<ChunkIndex> | undefined;
  /** How often it was asked for some packs. */
  #portions = 0;
  /** Settled when the index knows of all packs. */
  #whole: Promise<void> | undefined;

  constructor(root: string, superblock: Superblock, options: DatastoreOptions) {
    this.root = root;
    this.superblock = superblock;
    this.cacheDir = options.cacheDir;
    this.fs = options.fs ?? fsOfDatastore(root);
    this.log = options.log ?? SILENT;
  }

  /** @throws FailedError if the store has a feature that this version may only read. */
  checkWritable(): void {
    checkFeatures(this.superblock.features, superblockPath(this.root), { forWriting: true });
  }

  /**
   * Begins a session; nothing of the datastore is used outside of one by whoever must not lose it meanwhile.
   * @throws FailedError if the session would write and the store has a feature that we may only read.
   */
  async beginSession(kind: SessionKind): Promise<Session> {
    if (kind !== 'read') this.checkWritable();
    return await Session.begin(this, kind);
  }

  /** The ids of all packs, from the directory tree; in no order. @throws if a directory cannot be looked into. */
  async listPackIds(): Promise<PackId[]> {
    const { ids, shut } = await listPacks(this.root);
    for (const error of shut.values()) throw error;
    return ids;
  }

  /** The same for whoever can do without some, and the errors of the directories that cannot be looked into. */
  async listPacksSeen(): Promise<{ readonly ids: PackId[]; readonly shut: ReadonlyMap<string, VmarError> }> {
    return await listPacks(this.root);
  }

  /**
   * The chunk index, brought up to date with the packs: with all when first asked for all, or with those that are wanted, so
   * that a reader of one backup on a host that never saw the datastore need not wait for the tables of all others. Packs
   * whose tables are damaged are left out of it, with a warning.
   */
  async index(wanted?: ReadonlySet<PackId>): Promise<ChunkIndex> {
    this.#index ??= this.#openIndex();
    const index = await this.#index;
    if (wanted === undefined || ++this.#portions > MOST_PORTIONS) this.#whole ??= this.#reconcile(index);
    await (this.#whole ?? this.#reconcile(index, wanted));
    return index;
  }

  async #openIndex(): Promise<ChunkIndex> {
    // LMDB takes a while to load, and lists and the like do without it.
    const { ChunkIndex } = await import('./chunk-index.js');
    return await ChunkIndex.open(this.cacheDir, this.superblock, this.log);
  }

  /**
   * Condemned packs first, then damaged ones: of chunks that lie elsewhere too, the index is to tell the place that stays.
   * So these are never put off.
   */
  async #packsForIndex(known: ReadonlySet<PackId>, wanted: ReadonlySet<PackId> | undefined): Promise<PacksForIndex> {
    const condemned = await condemnedPacks(this.root);
    const damaged = (await readDamage(this.root, SILENT)).packs;
    const { ids: all, shut } = await this.listPacksSeen();
    for (const { message, object } of shut.values()) this.log.warn(`${message} (${object ?? this.root})`);
    // What cannot be seen is not gone.
    for (const id of known) if (shut.has(id.slice(0, 2))) all.push(id);
    const rank = (id: PackId): number => (condemned.has(id) ? 0 : damaged.has(id) ? 1 : 2);
    const ids = condemned.size + damaged.size === 0 ? all : all.sort((a, b) => rank(a) - rank(b));
    return { ids, isWanted: (id) => wanted === undefined || rank(id) < 2 || wanted.has(id) };
  }

  /** An index that cannot be completed costs time and space, but nothing else. */
  async #reconcile(index: ChunkIndex, wanted?: ReadonlySet<PackId>): Promise<void> {
    try {
      const { added, removed, unreadable } = await index.reconcile(
        async (known) => await this.#packsForIndex(known, wanted),
        (id) => readPackTable(this.root, id),
      );
      if (added > 0) this.log.info(`the chunk index was brought up to date with ${counted(added)} that it lacked`);
      if (removed > 0) this.log.info(`the chunk index still had ${counted(removed)} that went away`);
      for (const { packId, error } of unreadable) {
        this.log.warn(`pack ${packId} is not used: ${error instanceof Error ? error.message : String(error)}`);
      }
    } catch (error) {
      if (!(error instanceof FailedError) || error.code !== 'index-failed') throw error;
      this.log.warn(`${error.message} in ${error.object}; what it lacks is searched for slowly, or stored again`);
    }
  }

  /**
   * Resolves if this very datastore lies where it was opened.
   * @throws FailedError 'store-unreachable' if its superblock cannot be read, or is another's.
   */
  async checkReachable(): Promise<void> {
    let found: Superblock;
    try {
      found = decodeSuperblock(
        await readSmallFile(superblockPath(this.root), MOST_SUPERBLOCK_BYTES),
        superblockPath(this.root),
      );
    } catch (error) {
      if (error instanceof DamageError && error.code !== 'read-error') return;
      throw unreachable(this.root, error instanceof Error ? error.message : String(error), error);
    }
    if (!bytesEqual(found.storeUuid, this.superblock.storeUuid)) {
      throw unreachable(this.root, 'another datastore lies in its place');
    }
  }

  /** Closes the index, if it was opened. Sessions are ended by whoever began them. */
  async close(): Promise<void> {
    const index = this.#index;
    this.#index = undefined;
    this.#whole = undefined;
    await index?.then(
      (opened) => opened.close(),
      () => undefined,
    );
  }
}

/**
 * Opens a datastore; reads its superblock and nothing else.
 * @throws FailedError if there is no datastore or a newer one, DamageError if its superblock is damaged or gone.
 */
export async function openDatastore(root: string, options: DatastoreOptions): Promise<Datastore> {
  const path = superblockPath(root);
  let superblock: Superblock;
  try {
    superblock = decodeSuperblock(await readSmallFile(path, MOST_SUPERBLOCK_BYTES), path);
  } catch (error) {
    if (error instanceof DamageError || error instanceof NotFoundError) throw await whatIsThere(root, error);
    throw error;
  }
  checkFeatures(superblock.features, path, { forWriting: false });
  return new Datastore(root, superblock, options);
}

/** With packs or manifests beside it, a superblock that is damaged or missing is damage; else this is no datastore. */
async function whatIsThere(root: string, error: DamageError | NotFoundError): Promise<Error> {
  const isStore = (await exists(join(root, 'packs'))) || (await exists(join(root, 'manifests')));
  if (isStore) {
    const facts = { object: superblockPath(root), offsetBytes: 0, advice: await howToGoOn(root), cause: error };
    if (error instanceof DamageError) return new DamageError(error.code, error.message, facts);
    return new DamageError('superblock-missing', 'the superblock of the datastore is gone', facts);
  }
  return new FailedError('not-a-datastore', (await exists(root)) ? 'this is not a datastore' : 'no such directory', {
    object: root,
    advice: 'Check that it is mounted; `vmar init` makes a new one.',
    cause: error,
  });
}

/** A superblock says little, and any pack repeats it: a new one of the same shape takes the packs over. */
async function howToGoOn(root: string): Promise<string> {
  const { ids } = await listPacks(root).catch(() => ({ ids: [] }));
  for (const id of ids.slice(0, MOST_PACKS_TRIED)) {
    try {
      const reader = ContainerReader.open(packPath(root, id));
      const { clusterSizeBytes, hash } = reader.header;
      reader.close();
      const init = `vmar init NEW --cluster-size ${clusterSizeBytes >> 10}KiB --hash ${hash}`;
      return `Put it back from a copy; or run \`${init}\`, and put packs, manifests and state into NEW in place of its own.`;
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
    }
  }
  return 'Put it back from a copy; if `vmar init` was cut off here, run that again.';
}

function unreachable(root: string, why: string, cause?: unknown): FailedError {
  return new FailedError('store-unreachable', `the datastore cannot be reached: ${why}`, {
    object: root,
    advice: 'Check that it is mounted and in its place; reading goes on when it is back.',
    cause,
  });
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}

function counted(packs: number): string {
  return packs === 1 ? '1 pack' : `${packs} packs`;
}
