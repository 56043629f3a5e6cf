// SPDX-License-Identifier: MIT
// Damage that a reader met on its way, for the damage list: looked at once more first, since a datastore that goes away
// for a moment looks much like a bad disk.

import { bytesEqual } from '../base/bytes.js';
import { DamageError, VmarError } from '../base/errors.js';
import { ContainerReader } from '../store/container-reader.js';
import { changeDamage, type DamagedPack, type KnownDamage } from '../store/damage-list.js';
import type { Datastore } from '../store/datastore.js';
import { type PackId, packPath } from '../store/layout.js';
import type { Session } from '../store/session.js';
import { readFrame } from './chunk-reader.js';
import { packIdBytes } from './pack-id-bytes.js';

/** Between two writings. */
const PAUSE_MILLIS = 1000;
/** In one run; verify finds the rest. */
const MOST_NOTES = 65536;

type Part = number | 'all';

export class DamageNotes {
  readonly #store: Datastore;
  readonly #session: Session;
  readonly #known: KnownDamage;
  /** The backup that is read, for what it touches. */
  reading: string | undefined;
  #waiting = new Map<PackId, Set<Part>>();
  readonly #noted = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(store: Datastore, session: Session, known: KnownDamage) {
    this.#store = store;
    this.#session = session;
    this.#known = known;
  }

  /** A frame, or a pack that could not be opened, was found damaged. */
  note(packId: PackId, part: Part): void {
    const name = `${part}@${packId}`;
    if (this.#noted.has(name) || this.#noted.size >= MOST_NOTES || this.#isKnown(packId, part)) return;
    this.#noted.add(name);
    const parts = this.#waiting.get(packId);
    if (parts === undefined) this.#waiting.set(packId, new Set([part]));
    else parts.add(part);
    this.#timer ??= setTimeout(() => this.#begin(), PAUSE_MILLIS).unref();
  }

  #isKnown(packId: PackId, part: Part): boolean {
    const known = this.#known.packs.get(packId);
    const isTold = this.reading === undefined || this.#known.isDamaged(this.reading);
    return known !== undefined && isTold && (known.isWhole || (part !== 'all' && known.frames.has(part)));
  }

  #begin(): void {
    this.#timer = undefined;
    const waiting = this.#waiting;
    this.#waiting = new Map();
    this.#writing = this.#writing.then(() => this.#write(waiting));
  }

  /** Once it resolves, what was noted is in the list, durably, or cannot be. Never rejects. */
  async settle(): Promise<void> {
    clearTimeout(this.#timer);
    if (this.#waiting.size > 0) this.#begin();
    await this.#writing;
  }

  async #write(waiting: ReadonlyMap<PackId, ReadonlySet<Part>>): Promise<void> {
    try {
      await this.#store.checkReachable();
      const found = [...waiting].flatMap(([packId, parts]) => lookAgain(this.#store.root, packId, parts) ?? []);
      if (found.length === 0) return;
      await changeDamage(this.#store, this.#session, (known) => {
        const packs = new Map(known.packs);
        for (const damage of found) packs.set(damage.packId, this.#join(packs.get(damage.packId), damage));
        return packs.values();
      });
    } catch (error) {
      // It is away, or cannot be written: whoever reads next meets it again.
      if (!(error instanceof VmarError)) throw error;
    }
  }

  #join(known: DamagedPack | undefined, { packId, isWhole, frames, problem }: Found): DamagedPack {
    const now = Date.now();
    const reading = this.reading === undefined ? [] : [this.reading];
    const before = known?.isGone === true ? undefined : known;
    const all = new Set([...(before?.frames ?? []), ...frames]);
    return {
      ...{ packId, sinceMillis: before?.sinceMillis ?? now, seenMillis: now, isGone: false, isMet: true },
      isWhole: isWhole || before?.isWhole === true,
      frames: all,
      chunks: before?.chunks ?? new Set(),
      problem: before?.problem ?? problem,
      places: Math.max(before?.places ?? 0, all.size, 1),
      touched: new Set([...(before?.touched ?? []), ...reading]),
    };
  }
}

interface Found {
  readonly packId: PackId;
  readonly isWhole: boolean;
  readonly frames: readonly number[];
  readonly problem: string;
}

/** What is damaged still, by a descriptor of its own. */
function lookAgain(root: string, packId: PackId, parts: ReadonlySet<Part>): Found | undefined {
  let container: ContainerReader | undefined;
  const frames: number[] = [];
  let problem = '';
  try {
    container = ContainerReader.open(packPath(root, packId));
    if (!bytesEqual(container.header.containerId, packIdBytes(packId))) throw misnamed();
    for (const part of parts) {
      const damage = part === 'all' ? undefined : damageOfFrame(container, part);
      if (damage === undefined || part === 'all') continue;
      frames.push(part);
      problem ||= damage.message;
    }
    return frames.length === 0 ? undefined : { packId, isWhole: false, frames, problem };
  } catch (error) {
    if (error instanceof DamageError) return { packId, isWhole: true, frames: [], problem: error.message };
    if (error instanceof VmarError) return undefined;
    throw error;
  } finally {
    container?.close();
  }
}

function misnamed(): DamageError {
  return new DamageError('pack-name', 'a pack lies under the name of another');
}

function damageOfFrame(container: ContainerReader, frame: number): DamageError | undefined {
  try {
    readFrame(container, container.frame(frame));
    return undefined;
  } catch (error) {
    if (error instanceof DamageError) return error;
    throw error;
  }
}
