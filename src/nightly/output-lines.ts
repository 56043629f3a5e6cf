// SPDX-License-Identifier: MIT
// What a program says, line by line. A line that is too long is cut, and one that never ends takes no memory.

import { StringDecoder } from 'node:string_decoder';

const LONGEST_LINE = 4096;

export class OutputLines {
  readonly #decoder = new StringDecoder('utf8');
  readonly #onLine: (line: string) => void;
  #line = '';
  /** Of a line end in two bytes, the first has been seen. */
  #isAfterReturn = false;

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  add(bytes: Uint8Array): void {
    this.#addText(this.#decoder.write(bytes));
  }

  /** A last line need not have an end. */
  end(): void {
    this.#addText(this.#decoder.end());
    if (this.#line !== '') this.#endLine();
  }

  #addText(text: string): void {
    if (text === '') return;
    const whole = this.#isAfterReturn && text.startsWith('\n') ? text.slice(1) : text;
    this.#isAfterReturn = text.endsWith('\r');
    const pieces = whole.split(/\r\n|\n|\r/);
    for (const [index, piece] of pieces.entries()) {
      // One more than is shown tells that it was cut.
      this.#line += piece.slice(0, LONGEST_LINE + 1 - this.#line.length);
      if (index < pieces.length - 1) this.#endLine();
    }
  }

  #endLine(): void {
    const line = this.#line;
    this.#line = '';
    this.#onLine(line.length > LONGEST_LINE ? `${line.slice(0, LONGEST_LINE)}…` : line);
  }
}
