// SPDX-License-Identifier: MIT
// What a guest says on its serial console: lines, without what moves a cursor, and the one that is waited for.

/** Escape sequences of terminals. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const ESCAPES = /\u001b(?:\[[0-9;?]*[ -/]*[@-~]|[()][A-Z0-9]|[=>78cM])/g;
/** Of one line; a console that never ends one is cut. */
const MOST_LINE = 4096;
const MOST_LINES = 500;

export class ConsoleText {
  readonly #until: string;
  readonly #lines: string[] = [];
  /** The line under way: a prompt has no end. */
  #line = '';
  /** The first line with the text that is waited for. */
  found: string | undefined;

  constructor(until: string) {
    this.#until = until;
  }

  add(text: string): void {
    const pieces = text.split('\n');
    for (const [index, piece] of pieces.entries()) {
      this.#line = (this.#line + piece).slice(-MOST_LINE);
      const line = clean(this.#line);
      if (this.found === undefined && line.includes(this.#until)) this.found = line;
      if (index === pieces.length - 1) break;
      if (line !== '') this.#lines.push(line);
      if (this.#lines.length > MOST_LINES) this.#lines.shift();
      this.#line = '';
    }
  }

  lastLines(most: number): string[] {
    const rest = clean(this.#line);
    return [...this.#lines, ...(rest === '' ? [] : [rest])].slice(-most);
  }
}

function clean(line: string): string {
  return line
    .replace(ESCAPES, '')
    .replaceAll(/[^\P{Cc}\t]/gu, '')
    .trimEnd();
}
