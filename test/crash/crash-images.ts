// SPDX-License-Identifier: MIT
// Every state that a datastore can be found in after a crash during recorded operations, each once, as real files.

import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Random } from '../base/random.js';
import type { CrashModel, Survival } from '../store/crash-model.js';
import type { Operation } from '../store/recording-fs.js';

export interface Recording {
  /** The tree before the first operation. */
  readonly start: () => CrashModel;
  readonly operations: readonly Operation[];
}

export interface CrashImage {
  /** How many operations were done. */
  readonly count: number;
  /** What happened, in words. */
  readonly story: string;
  /** The directory that holds it. */
  readonly base: string;
}

/** What may happen to the operations before the crash, and what of them survives it. */
interface Crash {
  readonly name: string;
  readonly survival: Survival;
  readonly change: (operations: readonly Operation[]) => readonly Operation[];
}

const unchanged = (operations: readonly Operation[]) => operations;

const CRASHES: readonly Crash[] = [
  { name: 'the process was killed', survival: 'all', change: unchanged },
  { name: 'power cut: only what was synced is there', survival: 'durable', change: unchanged },
  {
    name: 'power cut: all names are there, contents that were not synced are not',
    survival: 'names',
    change: unchanged,
  },
  {
    name: 'power cut: all names are there, contents that were not synced are cut',
    survival: 'all',
    change: cutUnsynced,
  },
];

/** Ways of the kernel to write back this and that at any time, per prefix. */
const RANDOM_WRITEBACKS = 2;

/**
 * Yields the states after 0, 1, … all operations, for every kind of crash; states that are alike come once (the last
 * prefix always comes). Each lies in a directory of its own, `store` in it, which is gone when the next is asked for.
 */
export function* crashImages(place: ImagePlace, recording: Recording, random: Random): Generator<CrashImage> {
  const seen = new Set<string>();
  const { operations } = recording;
  for (let count = 0; count <= operations.length; count++) {
    for (const crash of [...CRASHES, ...randomCrashes(random)]) {
      const before = crash.change(operations.slice(0, count));
      const base = place.next();
      const model = recording.start();
      for (const operation of before) model.apply(operation);
      model.materialize(join(base, place.inside), crash.survival);
      const key = treeDigest(base);
      if (!seen.has(key) || count === operations.length) {
        seen.add(key);
        const last = operations[count - 1];
        const story = `after ${count} of ${operations.length} operations (${last === undefined ? 'none' : inWords(last)}): ${crash.name}`;
        yield { count, story, base };
      }
      place.remove(base);
    }
  }
}

function randomCrashes(random: Random): Crash[] {
  const change = (operations: readonly Operation[]) => withWriteback(operations, random);
  const name = 'power cut: what was synced is there, and some of the rest';
  return Array.from({ length: RANDOM_WRITEBACKS }, () => ({ name, survival: 'durable', change }));
}

/** Cuts every file in the middle of what was written to it since it was last synced. */
function cutUnsynced(operations: readonly Operation[]): Operation[] {
  const written = new Map<number, number>();
  const synced = new Map<number, number>();
  for (const operation of operations) {
    if (operation.kind === 'write') written.set(operation.file, operation.offsetBytes + operation.bytes.byteLength);
    if (operation.kind === 'fsync') synced.set(operation.file, written.get(operation.file) ?? 0);
  }
  const cuts = [...written].map(([file, end]): Operation => {
    const from = synced.get(file) ?? 0;
    return { kind: 'write', file, offsetBytes: from + Math.floor((end - from) / 2), bytes: new Uint8Array(0) };
  });
  return [...operations, ...cuts];
}

/** Syncs files and directories that were touched, at random moments after. */
function withWriteback(operations: readonly Operation[], random: Random): Operation[] {
  const result: Operation[] = [];
  const dirty: Operation[] = [];
  const gone = new Set<string>();
  for (const operation of operations) {
    result.push(operation);
    if (operation.kind === 'rmdir') gone.add(operation.path);
    for (const sync of syncsOf(operation)) dirty.push(sync);
    while (dirty.length > 0 && random.oneIn(3)) {
      const [sync] = dirty.splice(random.integer(0, dirty.length - 1), 1);
      if (sync!.kind === 'fsync-directory' && gone.has(sync!.path)) continue;
      result.push(sync!);
    }
  }
  return result;
}

function syncsOf(operation: Operation): Operation[] {
  switch (operation.kind) {
    case 'write':
      return [{ kind: 'fsync', file: operation.file }];
    case 'create':
    case 'mkdir':
    case 'unlink':
    case 'rmdir':
      return [syncParent(operation.path)];
    case 'link':
    case 'rename':
      return [syncParent(operation.from), syncParent(operation.to)];
    default:
      return [];
  }
}

function syncParent(path: string): Operation {
  return { kind: 'fsync-directory', path: path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : '' };
}

function inWords(operation: Operation): string {
  if ('to' in operation) return `${operation.kind} ${operation.to}`;
  return `${operation.kind} ${'path' in operation ? operation.path : `of file ${operation.file}`}`;
}

function treeDigest(directory: string): string {
  const hash = createHash('sha1');
  const entries = readdirSync(directory, { withFileTypes: true, recursive: true });
  const paths = entries.map((entry) => ({ path: join(entry.parentPath, entry.name), isFile: entry.isFile() }));
  for (const { path, isFile } of paths.sort((a, b) => (a.path < b.path ? -1 : 1))) {
    hash.update(`${path.slice(directory.length)}\0`);
    if (isFile) hash.update(readFileSync(path)).update('\0');
  }
  return hash.digest('hex');
}

/** Where images are put: one at a time. */
export class ImagePlace {
  readonly #parent: string;
  readonly #cache: string | undefined;
  #count = 0;

  /**
   * @param inside where in an image's directory the recorded tree lies
   * @param cache the chunk index that all images are looked at with: it knows packs of other images; undefined for none
   */
  constructor(
    parent: string,
    readonly inside: '' | 'store',
    cache: string | undefined,
  ) {
    this.#parent = parent;
    this.#cache = cache;
    mkdirSync(parent, { recursive: true });
  }

  next(): string {
    const base = join(this.#parent, `image-${this.#count++}`);
    if (this.inside !== '') mkdirSync(base);
    return base;
  }

  /** Gives the image a chunk index; every fourth has none, as on a new host. */
  addCache(base: string, number: number): void {
    if (this.#cache === undefined || number % 4 === 0) mkdirSync(join(base, 'cache'), { recursive: true });
    else symlinkSync(this.#cache, join(base, 'cache'));
  }

  remove(base: string): void {
    rmSync(base, { recursive: true, force: true });
  }
}
