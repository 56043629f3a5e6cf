// SPDX-License-Identifier: MIT
// The text of a configuration as values, and back from a place in the values to a line and column. All scalars are text:
// what `02:00`, `no` or `0100` means is for the schema to say, not for YAML.

import {
  type Document,
  isAlias,
  isMap,
  isNode,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  parseDocument,
  visit,
  type YAMLMap,
} from 'yaml';
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

/** More take minutes to follow. */
const MOST_ALIASES = 10_000;

interface TextProblem {
  readonly offset: number;
  readonly message: string;
}

export class ConfigYaml {
  readonly #document: Document;
  readonly #lines: LineCounter;
  /** By their keys; a map of thousands is looked into for each of its problems. */
  readonly #pairs = new Map<YAMLMap, ReadonlyMap<unknown, Pair>>();

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
      // It compares each key with all others. See below.
      uniqueKeys: false,
    });
    const found = [...document.errors, ...document.warnings].map(({ code, pos, message }) => {
      const isSecond = code === 'MULTIPLE_DOCS';
      return { offset: pos[0], message: isSecond ? 'a second document begins here: a configuration is one' : message };
    });
    const problems = [...found, ...problemsIn(document)].map(({ offset, message }) => {
      const { line, col } = lines.linePos(offset);
      return { line, column: col, place: '', message };
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
      node = isMap(node) ? this.#pairOf(node, step)?.value : node.get(step, true);
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
    const named = this.#pairOf(map, key)?.key;
    return (isScalar(named) ? named : map).range?.[0] ?? 0;
  }

  #pairOf(map: YAMLMap, key: string | number): Pair | undefined {
    let pairs = this.#pairs.get(map);
    if (pairs === undefined) {
      // Of a key that stands twice the first.
      pairs = new Map(map.items.map((pair) => [keyOf(pair), pair] as const).reverse());
      this.#pairs.set(map, pairs);
    }
    return pairs.get(String(key));
  }

  #position(offset: number): { readonly line: number; readonly column: number } {
    const { line, col } = this.#lines.linePos(offset);
    return { line: Math.max(1, line), column: Math.max(1, col) };
  }
}

/** The text of a key; undefined for what is no text, such as the `<<` of a merge. */
function keyOf({ key }: Pair): string | undefined {
  return isScalar(key) && typeof key.value === 'string' ? key.value : undefined;
}

/** What the parser does not tell, in one pass: keys that stand twice, and aliases of nothing. */
function problemsIn(document: Document): readonly TextProblem[] {
  const problems: TextProblem[] = [];
  const anchors = new Set<string>();
  let aliases = 0;
  visit(document, (key, node) => {
    if (isScalar(node))
      for (const message of scalarProblems(node.value, key)) problems.push({ offset: node.range?.[0] ?? 0, message });
    if (isMap(node)) for (const problem of keysTwice(node)) problems.push(problem);
    if (isAlias(node)) {
      const offset = node.range?.[0] ?? 0;
      if (++aliases === MOST_ALIASES + 1) problems.push({ offset, message: `more than ${MOST_ALIASES} aliases` });
      if (anchors.has(node.source)) return;
      const message = `there is no anchor ${JSON.stringify(node.source)} before this alias`;
      problems.push({ offset, message });
    } else if (isNode(node) && node.anchor !== undefined) {
      anchors.add(node.anchor);
    }
  });
  return problems;
}

function* scalarProblems(value: unknown, key: unknown): Iterable<string> {
  if (String(value).includes('\0')) yield 'a NUL character, which no path or command can hold';
  // Maps of JavaScript would lose it without a word.
  if (key === 'key' && value === '__proto__') yield 'this cannot be a name';
}

function* keysTwice(map: YAMLMap): Iterable<TextProblem> {
  const keys = new Set<string>();
  for (const pair of map.items) {
    const key = keyOf(pair);
    if (key === undefined) continue;
    if (keys.has(key) && isScalar(pair.key)) {
      yield { offset: pair.key.range?.[0] ?? 0, message: 'Map keys must be unique' };
    }
    keys.add(key);
  }
}
