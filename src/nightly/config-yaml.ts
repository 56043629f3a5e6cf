// SPDX-License-Identifier: MIT
// The text of a configuration as values, and back from a place in the values to a line and column. All scalars are text:
// what `02:00`, `no` or `0100` means is for the schema to say, not for YAML.

import { type Document, isMap, isNode, isScalar, isSeq, LineCounter, type Node, parseDocument, visit } from 'yaml';
import { FailedError } from '../base/errors.js';

/** From the top: keys of maps, numbers of lists. */
export type ConfigPath = readonly (string | number)[];

export interface ConfigProblem {
  /** From 1. */
  readonly line: number;
  readonly column: number;
  /** "jobs.nightly.schedule"; "" at the top. */
  readonly place: string;
  readonly message: string;
}

/** Its URL and headers are what lets one in; problems go into logs and mails. */
const SECRET_KEY = 'webhook';

export class ConfigYaml {
  readonly #document: Document;
  readonly #lines: LineCounter;

  private constructor(document: Document, lines: LineCounter) {
    this.#document = document;
    this.#lines = lines;
  }

  static parse(text: string): { readonly yaml: ConfigYaml; readonly problems: readonly ConfigProblem[] } {
    const lines = new LineCounter();
    const document = parseDocument(text, {
      schema: 'failsafe',
      merge: true,
      lineCounter: lines,
      prettyErrors: false,
      logLevel: 'error',
    });
    const problems: ConfigProblem[] = [];
    const wrong = (offset: number | undefined, message: string): void => {
      const { line, col } = lines.linePos(offset ?? 0);
      problems.push({ line, column: col, place: '', message });
    };
    for (const { code, pos, message } of [...document.errors, ...document.warnings]) {
      wrong(pos[0], code === 'MULTIPLE_DOCS' ? 'a second document begins here: a configuration is one' : message);
    }
    visit(document, {
      Alias: (_, alias) => {
        if (alias.resolve(document) !== undefined) return;
        wrong(alias.range?.[0], `there is no anchor ${JSON.stringify(alias.source)} before this alias`);
      },
      Scalar: (key, { value, range }) => {
        if (String(value).includes('\0')) wrong(range?.[0], 'a NUL character, which no path or command can hold');
        // Maps of JavaScript would lose it without a word.
        if (key === 'key' && value === '__proto__') wrong(range?.[0], 'this cannot be a name');
      },
    });
    return { yaml: new ConfigYaml(document, lines), problems };
  }

  /** @throws FailedError if aliases make too much of it. */
  values(file: string): unknown {
    try {
      return this.#document.toJS({ maxAliasCount: 1000 });
    } catch (error) {
      throw new FailedError('bad-config', `the configuration cannot be read: ${(error as Error).message}`, {
        object: file,
        cause: error,
      });
    }
  }

  /** The problem at a place; where that is missing, at what should have it. */
  problemAt(path: ConfigPath, message: string): ConfigProblem {
    return { ...this.#position(this.#offsetOf(path)), place: path.join('.'), message };
  }

  /** The problem of a key. */
  problemOfKey(path: ConfigPath, key: string, message: string): ConfigProblem {
    return { ...this.#position(this.#keyOffset(path, key)), place: [...path, key].join('.'), message };
  }

  /** What stands at a place, for messages: a text in quotes, "a map", "a list", "nothing". Secrets are not shown. */
  found(path: ConfigPath): string {
    const node = this.#nodeAt(path);
    if (isMap(node)) return 'a map';
    if (isSeq(node)) return node.items.length === 0 ? 'an empty list' : 'a list';
    if (!isScalar(node) || node.value === '' || node.value === null) return 'nothing';
    return path.includes(SECRET_KEY) ? 'a text that is not shown' : JSON.stringify(node.value);
  }

  #nodeAt(path: ConfigPath): Node | undefined {
    let node: unknown = this.#document.contents;
    for (const step of path) {
      if (!isMap(node) && !isSeq(node)) return undefined;
      node = node.get(step, true);
    }
    return isNode(node) ? node : undefined;
  }

  #offsetOf(path: ConfigPath): number {
    for (let length = path.length; length >= 0; length--) {
      const node = this.#nodeAt(path.slice(0, length));
      const key = path[length - 1];
      // An empty value has no place of its own, and a map is best told by its key.
      const isPlain = isScalar(node) && node.value !== '';
      if (node === undefined) continue;
      if (typeof key === 'string' && !isPlain) return this.#keyOffset(path.slice(0, length - 1), key);
      return node.range?.[0] ?? 0;
    }
    return 0;
  }

  #keyOffset(path: ConfigPath, key: string): number {
    const map = this.#nodeAt(path);
    if (!isMap(map)) return 0;
    for (const pair of map.items) {
      if (isScalar(pair.key) && String(pair.key.value) === key) return pair.key.range?.[0] ?? 0;
    }
    return map.range?.[0] ?? 0;
  }

  #position(offset: number): { readonly line: number; readonly column: number } {
    const { line, col } = this.#lines.linePos(offset);
    return { line: Math.max(1, line), column: Math.max(1, col) };
  }
}
