// SPDX-License-Identifier: MIT
// Chunks that are not where the index says, for readers: all that are asked for at the time are looked for in one pass
// through all packs, with those that are likely to be asked for next; what came of it is remembered for a while. A lost
// pack has tens of thousands of chunks, and a datastore thousands of packs.
//
// What was found is remembered only if the datastore was there before the pass and after it, and nothing of it went away in
// between: a mount that is gone for a moment looks like lost packs.
//
// A pass lets others run every few milliseconds: who reads what is not lost need not wait for it.

import { type Clock, REAL_CLOCK } from '../base/clock.js';
import { InterruptedError, VmarError } from '../base/errors.js';
import { IdTable, wordsOf } from '../store/gc/id-table.js';
import { chunkKey } from './chunk-key.js';
import type { ChunkPlaces, LikelyNext, SearchedSource } from './chunk-source.js';
import { SearchPass } from './search-pass.js';
import { type TakeTurn, takingTurns } from './turns.js';

/** Looked for in one pass: some ten MiB each. */
const MOST_IDS = 1 << 17;
/** Remembered to be nowhere: 20 MiB; and to be somewhere. */
const MOST_NOWHERE = 1 << 19;
const MOST_FOUND = 1 << 16;
const TURN_MILLIS = 4;
const LONG_MILLIS = 2000;
/** What follows is gathered for so long, or for as long as the last pass took. */
const GATHER_MILLIS = 1000;
/** How long what was found is believed, at least; and so many times as long as it took. */
const BELIEVED_MILLIS = 60_000;
const BELIEVED_TIMES = 20;

interface Wish {
  readonly id: Uint8Array;
  readonly next: LikelyNext | undefined;
  readonly resolve: (places: ChunkPlaces) => void;
  readonly reject: (error: unknown) => void;
}

export interface SearchHooks {
  /** A chunk was found: gives its places in the order in which they are to be tried. */
  readonly found: (id: Uint8Array, places: ChunkPlaces) => Promise<ChunkPlaces>;
  /** Before a pass and after it. @throws if the datastore is away: then the pass tells nothing */
  readonly checkReachable: () => Promise<void>;
  /** How many containers went away so far between their listing and their opening. */
  readonly vanished: () => number;
  /** The first pass that takes long is under way, for so many chunks. */
  readonly onLong: (chunks: number) => void;
}

export class JointSearch {
  readonly #source: Pick<SearchedSource, 'containers'>;
  readonly #hooks: SearchHooks;
  readonly #clock: Clock;
  readonly #takeTurn: TakeTurn;
  #wishes: Wish[] = [];
  #isAtWork = false;
  #isEnded = false;
  #nowhere = new IdTable();
  #found = new Map<string, ChunkPlaces>();
  /** Why containers could not be opened, in the last pass. */
  #unopened: readonly VmarError[] = [];
  #believedUntil = Number.NEGATIVE_INFINITY;
  #lastMillis = 0;
  /** Whether what is remembered was found after a doubt; and whether there was one since. */
  #isSure = false;
  #isDoubted = false;
  /** How often all was forgotten. */
  #forgotten = 0;
  #isTold = false;

  constructor(source: Pick<SearchedSource, 'containers'>, hooks: SearchHooks, clock: Clock = REAL_CLOCK) {
    this.#source = source;
    this.#hooks = hooks;
    this.#clock = clock;
    const end = new AbortController();
    this.#takeTurn = takingTurns(end.signal, TURN_MILLIS);
    this.#abort = () => end.abort(new InterruptedError());
  }

  readonly #abort: () => void;

  /**
   * Every place of a chunk.
   * @throws InterruptedError once `end` was called
   */
  async find(id: Uint8Array, next?: LikelyNext): Promise<ChunkPlaces> {
    const known = this.#known(id);
    if (known !== undefined) return known;
    if (this.#isEnded) throw new InterruptedError();
    return await new Promise((resolve, reject) => {
      this.#wishes.push({ id: copyOf(id), next, resolve, reject });
      if (!this.#isAtWork) void this.#work();
    });
  }

  /** What was found may be wrong, and is looked for once more. But once is enough: what is found then is believed. */
  doubt(): void {
    if (this.#isSure || this.#isDoubted) return;
    this.forget();
    this.#isDoubted = true;
  }

  /** The datastore was away: whatever is known may be wrong. */
  forget(): void {
    this.#believedUntil = Number.NEGATIVE_INFINITY;
    this.#isSure = false;
    this.#isDoubted = false;
    this.#forgotten++;
  }

  /** Ends a pass that is under way; nothing is looked for any more. */
  end(): void {
    this.#isEnded = true;
    this.#abort();
  }

  #known(id: Uint8Array): ChunkPlaces | undefined {
    return this.#clock.monotonicMillis() > this.#believedUntil ? undefined : this.#remembered(id);
  }

  #remembered(id: Uint8Array): ChunkPlaces | undefined {
    const found = this.#found.get(chunkKey(id));
    if (found !== undefined) return found;
    return this.#nowhere.find(wordsOf(id), 0) < 0 ? undefined : { places: [], passedOver: this.#unopened };
  }

  async #work(): Promise<void> {
    this.#isAtWork = true;
    // Whoever asks in the same turn comes in too.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.#wishes.length > 0) {
      const wishes = this.#wishes;
      this.#wishes = [];
      try {
        const results = await this.#pass(wishes);
        for (const [at, { resolve }] of wishes.entries()) resolve(results[at]!);
      } catch (error) {
        for (const { reject } of wishes) reject(error);
      }
    }
    this.#isAtWork = false;
  }

  /** What is known of each wish after it. */
  async #pass(wishes: readonly Wish[]): Promise<ChunkPlaces[]> {
    if (this.#isEnded) throw new InterruptedError();
    if (this.#clock.monotonicMillis() > this.#believedUntil) {
      this.#clear();
      this.#isSure = this.#isDoubted;
      this.#isDoubted = false;
    }
    const ids = new Map<string, Uint8Array>();
    for (const { id } of wishes) if (this.#remembered(id) === undefined) ids.set(chunkKey(id), id);
    if (ids.size > 0) {
      await this.#gather(ids, wishes);
      await this.#lookFor(ids);
    }
    return wishes.map(({ id }) => this.#remembered(id) ?? { places: [], passedOver: this.#unopened });
  }

  #clear(): void {
    this.#nowhere = new IdTable();
    this.#found = new Map();
  }

  async #gather(ids: Map<string, Uint8Array>, wishes: readonly Wish[]): Promise<void> {
    const end = this.#clock.monotonicMillis() + Math.max(GATHER_MILLIS, this.#lastMillis);
    for (const { next } of wishes) {
      for (const id of next?.() ?? []) {
        await this.#takeTurn();
        if (ids.size >= MOST_IDS || this.#clock.monotonicMillis() > end) return;
        if (id !== undefined && this.#remembered(id) === undefined) ids.set(chunkKey(id), copyOf(id));
      }
    }
  }

  async #lookFor(ids: ReadonlyMap<string, Uint8Array>): Promise<void> {
    const start = this.#clock.monotonicMillis();
    await this.#hooks.checkReachable();
    const before = this.#forgotten;
    const vanished = this.#hooks.vanished();
    const { pass, unopened } = await this.#goThrough(ids);
    await this.#hooks.checkReachable();
    if (this.#hooks.vanished() !== vanished) this.forget();
    if (this.#found.size + pass.found.size > MOST_FOUND || this.#nowhere.count + ids.size > MOST_NOWHERE) this.#clear();
    this.#unopened = unopened;
    for (const [key, id] of ids) {
      const found = pass.found.get(key);
      if (found === undefined) this.#nowhere.add(wordsOf(id), 0);
      else {
        const passedOver = [...found.passedOver, ...unopened];
        this.#found.set(key, await this.#hooks.found(id, { places: found.places, passedOver }));
      }
    }
    const now = this.#clock.monotonicMillis();
    this.#lastMillis = now - start;
    // If all was to be forgotten meanwhile, this was found with the rest.
    if (this.#forgotten === before && now > this.#believedUntil)
      this.#believedUntil = now + Math.max(BELIEVED_MILLIS, BELIEVED_TIMES * this.#lastMillis);
  }

  async #goThrough(ids: ReadonlyMap<string, Uint8Array>): Promise<{ pass: SearchPass; unopened: VmarError[] }> {
    const pass = new SearchPass(ids);
    const unopened: VmarError[] = [];
    const long = setTimeout(() => this.#tell(ids.size), LONG_MILLIS).unref();
    try {
      for await (const container of this.#source.containers()) {
        if (container instanceof VmarError) unopened.push(container);
        else pass.lookInto(container);
        await this.#takeTurn();
      }
    } finally {
      clearTimeout(long);
    }
    return { pass, unopened };
  }

  #tell(chunks: number): void {
    if (!this.#isTold) this.#hooks.onLong(chunks);
    this.#isTold = true;
  }
}

function copyOf(id: Uint8Array): Uint8Array {
  return Uint8Array.prototype.slice.call(id);
}
