// SPDX-License-Identifier: MIT
// Looks for a data chunk that is not where it should be, or is damaged there: any good copy will do. Tells damage from a
// datastore that is away as a whole.
//
// Guarantee: DamageError is said only of a chunk of which no good copy was found while the datastore was there, before the
// search and after it.

import { toHex } from '../base/bytes.js';
import { type Clock, REAL_CLOCK } from '../base/clock.js';
import { DamageError, FailedError, VmarError } from '../base/errors.js';
import type { ChunkReader } from './chunk-reader.js';
import type { ChunkPlace, ChunkSource, LikelyNext } from './chunk-source.js';

/** How long a chunk that is nowhere is not looked for again: a search goes through all packs. */
const LOST_MILLIS = 60_000;
const MOST_LOST = 65536;
/** Files are opened anew at most so often where single ones cannot be read. */
const OPEN_AGAIN_MILLIS = 1000;
/** What a datastore that is away looks like, and a bad disk or a lost pack too. */
const VAGUE = new Set(['chunk-missing', 'container-unreadable', 'container-gone', 'open-failed', 'read-failed']);

interface LostChunk {
  readonly error: VmarError;
  readonly untilMillis: number;
}

/** Takes a chunk from a place; false if it is not there as its id says. Throws what is wrong with the place. */
export type TakeChunk = (place: ChunkPlace) => Promise<boolean>;

export class ChunkSearch {
  readonly #source: ChunkSource;
  readonly #clock: Clock;
  readonly #lost = new Map<string, LostChunk>();
  /** Called when places that were known may not be right any more. */
  readonly #onAway: () => void;
  #openedMillis = Number.NEGATIVE_INFINITY;

  constructor(source: ChunkSource, options: { clock?: Clock; onAway?: () => void } = {}) {
    this.#source = source;
    this.#clock = options.clock ?? REAL_CLOCK;
    this.#onAway = options.onAway ?? (() => {});
  }

  /** Throws at once for a chunk that was looked for in vain lately. */
  checkKnown(id: Uint8Array): void {
    const known = this.#lost.get(nameOf(id));
    if (known === undefined) return;
    if (known.untilMillis > this.#clock.monotonicMillis()) throw known.error;
    this.#lost.delete(nameOf(id));
  }

  /**
   * Gives `take` every place of the chunk until it takes one. Many may be looked for at once: that is one search. `next` says
   * what is likely to be looked for after it.
   * @throws DamageError if no place is good, FailedError if one may be in a container that this vmar cannot read, or
   * 'store-unreachable'.
   */
  async anywhere(id: Uint8Array, reason: unknown, take: TakeChunk, next?: LikelyNext): Promise<void> {
    this.checkKnown(id);
    if (reason !== undefined) await this.#lookAround(reason);
    await this.#twice(() => this.#everyPlace(id, take, next)).catch((error: unknown) => {
      if (error instanceof DamageError) this.#remember(id, error);
      throw error;
    });
  }

  /** Reads a map page with the same care. */
  async read(chunks: ChunkReader, id: Uint8Array, kind: number, next?: LikelyNext): Promise<Uint8Array> {
    return await this.#twice(() => chunks.read(id, kind, next));
  }

  /** Tries again what may have failed because the datastore was away for a moment. */
  async #twice<Result>(attempt: () => Promise<Result>): Promise<Result> {
    try {
      return await attempt();
    } catch (error) {
      await this.#lookAround(error);
      if (!isVague(error)) throw error;
    }
    this.#source.doubt?.();
    try {
      return await attempt();
    } catch (error) {
      await this.#lookAround(error);
      throw error;
    }
  }

  /**
   * After something could not be read: whether the datastore is there. Opens files anew where they may be dead.
   * @throws FailedError if it is away
   */
  async #lookAround(reason: unknown): Promise<void> {
    if (!(reason instanceof VmarError)) throw reason;
    try {
      await this.#source.checkReachable();
    } catch (error) {
      this.#forget();
      throw error;
    }
    const now = this.#clock.monotonicMillis();
    if (!isVague(reason) || now - this.#openedMillis < OPEN_AGAIN_MILLIS) return;
    this.#openedMillis = now;
    this.#forget();
  }

  #forget(): void {
    this.#lost.clear();
    this.#source.openAgain();
    this.#onAway();
  }

  /** Throws why no place would do. */
  async #everyPlace(id: Uint8Array, take: TakeChunk, next: LikelyNext | undefined): Promise<void> {
    const { places, passedOver } = await this.#source.locateAll(id, next);
    let failure: VmarError | undefined;
    for (const place of places) {
      try {
        if (await take(place)) return;
        throw damaged(place, id);
      } catch (error) {
        if (!(error instanceof VmarError)) throw error;
        if (error instanceof DamageError) this.#source.distrust?.(place);
        failure ??= error;
      }
    }
    const refused = passedOver.find((error) => error instanceof FailedError);
    throw failure ?? refused ?? passedOver[0] ?? missing(id);
  }

  #remember(id: Uint8Array, error: VmarError): void {
    if (this.#lost.size >= MOST_LOST) this.#lost.clear();
    this.#lost.set(nameOf(id), { error, untilMillis: this.#clock.monotonicMillis() + LOST_MILLIS });
  }
}

function isVague(error: unknown): boolean {
  return error instanceof VmarError && VAGUE.has(error.code);
}

function nameOf(id: Uint8Array): string {
  return Buffer.from(id.buffer, id.byteOffset, 32).toString('latin1');
}

function damaged({ container }: ChunkPlace, id: Uint8Array): DamageError {
  const facts = { object: container.path, expected: toHex(id) };
  return new DamageError('chunk-damaged', 'a chunk does not match its id', facts);
}

function missing(id: Uint8Array): DamageError {
  return new DamageError('chunk-missing', 'a chunk is in no pack', { object: toHex(id) });
}
