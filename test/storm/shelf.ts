// SPDX-License-Identifier: MIT
// What a datastore must hold, as far as that can be told, while many commands work on it at once and some are killed.

export type Certainty = 'there' | 'gone' | 'unknown';

interface Change {
  readonly kind: 'add' | 'remove';
  readonly touches: (id: string) => boolean;
  readonly begun: number;
  ended: number | undefined;
}

/** One command that adds or removes backups, from its start. */
export interface Pending {
  /** It said that it did this to these; of all else that it might have touched, nothing is known to have changed. */
  done(ids: Iterable<string>): void;
  /** Nobody knows what it did to these. */
  cutOff(ids: Iterable<string>): void;
}

export class Shelf {
  readonly #certain = new Map<string, Certainty>();
  readonly #changes: Change[] = [];
  #clock = 0;

  certainty(id: string): Certainty {
    return this.#certain.get(id) ?? 'gone';
  }

  /** Those that may be there. */
  possible(): string[] {
    return [...this.#certain].filter(([, certainty]) => certainty !== 'gone').map(([id]) => id);
  }

  there(): string[] {
    return [...this.#certain].filter(([, certainty]) => certainty === 'there').map(([id]) => id);
  }

  begin(kind: Change['kind'], touches: (id: string) => boolean): Pending {
    const change: Change = { kind, touches, begun: this.#clock++, ended: undefined };
    this.#changes.push(change);
    const end = (ids: Iterable<string>, certainty: (id: string) => Certainty): void => {
      for (const id of ids) this.#certain.set(id, certainty(id));
      change.ended = this.#clock++;
    };
    const outcome = kind === 'add' ? 'there' : 'gone';
    return {
      done: (ids) => end(ids, (id) => (this.#isContested(change, id) ? 'unknown' : outcome)),
      cutOff: (ids) => end(ids, (id) => (this.certainty(id) === outcome ? outcome : 'unknown')),
    };
  }

  /** Whether the opposite was being done to the backup at the same time, so that nobody knows who came last. */
  #isContested(change: Change, id: string): boolean {
    return this.#changes.some(
      (other) =>
        other.kind !== change.kind && (other.ended === undefined || other.ended > change.begun) && other.touches(id),
    );
  }

  /** To be asked later: whether the backup may have been away at any time since now. */
  watch(id: string): () => boolean {
    const since = this.#clock;
    const wasThere = this.certainty(id) === 'there';
    return () =>
      !wasThere ||
      this.#changes.some(
        ({ kind, ended, touches }) => kind === 'remove' && (ended === undefined || ended >= since) && touches(id),
      );
  }

  /** Nothing runs: compares with what is listed, and knows it all afterwards. What is wrong, in words. */
  settle(listed: ReadonlySet<string>): string[] {
    const wrong: string[] = [];
    for (const [id, certainty] of this.#certain) {
      if (certainty === 'there' && !listed.has(id)) wrong.push(`${id} is lost`);
      if (certainty === 'gone' && listed.has(id)) wrong.push(`${id} came back`);
    }
    this.#certain.clear();
    for (const id of listed) this.#certain.set(id, 'there');
    this.#changes.length = 0;
    return wrong;
  }
}
