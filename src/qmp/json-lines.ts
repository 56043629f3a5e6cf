// SPDX-License-Identifier: MIT
// JSON messages, one a line, as QMP and the guest agent send them. The peer is not trusted: limits come first.

/** The longest answer seen from a QEMU is the schema's, some 300 KB. */
export const MOST_LINE_BYTES = 16 << 20;
/** A chain of backing images nests one level an image. */
export const MOST_DEPTH = 512;

const NEWLINE = 0x0a;

/** What was received breaks the rules; the message says how. */
export class LineFault extends Error {}

/** Cuts a stream of bytes into lines. Holds at most one line. */
export class LineSplitter {
  #parts: Uint8Array[] = [];
  #heldBytes = 0;
  readonly #mostBytes: number;

  constructor(mostBytes: number = MOST_LINE_BYTES) {
    this.#mostBytes = mostBytes;
  }

  /** The start of a line that has not ended. */
  get held(): Uint8Array {
    return Buffer.concat(this.#parts);
  }

  /**
   * The lines that end in these bytes, without their ends. The memory may be used again after the call.
   * @throws LineFault for a line that is too long
   */
  push(bytes: Uint8Array): Buffer[] {
    const lines: Buffer[] = [];
    let from = 0;
    for (let at = bytes.indexOf(NEWLINE); at >= 0; at = bytes.indexOf(NEWLINE, from)) {
      this.#hold(bytes.subarray(from, at));
      lines.push(Buffer.concat(this.#parts));
      this.#parts = [];
      this.#heldBytes = 0;
      from = at + 1;
    }
    this.#hold(bytes.subarray(from));
    return lines;
  }

  #hold(bytes: Uint8Array): void {
    this.#heldBytes += bytes.length;
    if (this.#heldBytes > this.#mostBytes) throw new LineFault(`a line of more than ${this.#mostBytes} bytes`);
    if (bytes.length > 0) this.#parts.push(Buffer.from(bytes));
  }
}

/** @throws LineFault for what is no JSON, or nested too deep */
export function parseLine(line: Buffer): unknown {
  checkDepth(line);
  try {
    return JSON.parse(line.toString('utf8'));
  } catch {
    throw new LineFault(`not JSON: ${excerpt(line)}`);
  }
}

/** What of foreign bytes can be shown in a message. */
export function excerpt(bytes: Uint8Array): string {
  return JSON.stringify(Buffer.from(bytes.subarray(0, 60)).toString('latin1'));
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

function checkDepth(line: Uint8Array): void {
  let depth = 0;
  for (let at = 0; at < line.length; at++) {
    const byte = line[at]!;
    if (byte === QUOTE) at = endOfText(line, at + 1);
    else if (byte === 0x7b || byte === 0x5b) {
      if (++depth > MOST_DEPTH) throw new LineFault(`a message nested deeper than ${MOST_DEPTH}`);
    } else if (byte === 0x7d || byte === 0x5d) depth--;
  }
}

/** Where the text that began before `at` has its closing quote. */
function endOfText(line: Uint8Array, at: number): number {
  let end = at;
  while (end < line.length && line[end] !== QUOTE) end += line[end] === BACKSLASH ? 2 : 1;
  return end;
}
