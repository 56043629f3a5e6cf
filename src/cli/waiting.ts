// SPDX-License-Identifier: MIT
// That something goes on of which nobody can tell how far it is: for how long now, and for how long at most. A line that
// changes on a terminal, nothing elsewhere.

import { humanDuration } from './human.js';
import type { Output } from './output.js';
import { CLEAR_LINE, lineColumns, QUIET_MILLIS } from './terminal-line.js';

const LINE_MILLIS = 1000;

export class Waiting {
  readonly #output: Output;
  readonly #startMillis = performance.now();
  readonly #text: (seconds: string) => string;
  #timer: NodeJS.Timeout | undefined;

  /** @param text what is shown, given how long it lasts: "booting: 35 s" */
  constructor(output: Output, text: (seconds: string) => string) {
    this.#output = output;
    this.#text = text;
    const terminal = output.progressTerminal;
    if (output.quiet || terminal === undefined) return;
    this.#timer = setTimeout(() => this.#begin(terminal), QUIET_MILLIS).unref();
  }

  /** Takes the line away. */
  end(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#output.live?.before();
    this.#output.live = undefined;
  }

  #begin(terminal: NodeJS.WriteStream): void {
    const show = (): void => {
      const text = this.#text(humanDuration(Math.floor((performance.now() - this.#startMillis) / 1000)));
      terminal.write(`${CLEAR_LINE}${text.slice(0, lineColumns(terminal))}`);
    };
    this.#output.live = { before: () => terminal.write(CLEAR_LINE), after: show, end: () => this.end() };
    this.#timer = setInterval(show, LINE_MILLIS).unref();
    show();
  }
}
