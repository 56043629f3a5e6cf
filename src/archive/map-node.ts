// SPDX-License-Identifier: MIT
// One page of a map while it is being filled: its ids, and which of them are there.

/** `filled` and `started` are bit sets over the entries; an entry is started when some of what lies below it is. */
export class MapNode {
  readonly ids: Buffer;
  readonly #filled: Uint8Array;
  readonly #started: Uint8Array;
  #missing: number;

  constructor(
    readonly level: number,
    readonly index: number,
    readonly entries: number,
    fanout: number,
    record?: Buffer,
  ) {
    const bytes = record ?? Buffer.alloc(nodeRecordBytes(fanout));
    this.record = bytes;
    this.ids = bytes.subarray(0, entries * 32);
    this.#filled = bytes.subarray(fanout * 32, fanout * 32 + fanout / 8);
    this.#started = bytes.subarray(fanout * 32 + fanout / 8);
    this.#missing = entries - (record === undefined ? 0 : countBits(this.#filled));
  }

  /** All of the node's state, as it is spilled to scratch. */
  readonly record: Buffer;

  get isComplete(): boolean {
    return this.#missing === 0;
  }

  /** False if the entry, or part of what lies below it, was there already. */
  fill(entry: number, id: Uint8Array | undefined): boolean {
    if (this.isFilled(entry)) return false;
    this.#filled[entry >> 3]! |= 1 << (entry & 7);
    this.#missing--;
    if (id !== undefined) this.ids.set(id, entry * 32);
    return true;
  }

  isFilled(entry: number): boolean {
    return (this.#filled[entry >> 3]! & (1 << (entry & 7))) !== 0;
  }

  start(entry: number): void {
    this.#started[entry >> 3]! |= 1 << (entry & 7);
  }

  isStarted(entry: number): boolean {
    return (this.#started[entry >> 3]! & (1 << (entry & 7))) !== 0;
  }

  /** The first entry that is not there. */
  firstMissing(): number {
    for (let entry = 0; entry < this.entries; entry++) if (!this.isFilled(entry)) return entry;
    return this.entries;
  }
}

/** ids, filled bits, started bits. */
export function nodeRecordBytes(fanout: number): number {
  return fanout * 32 + (fanout / 8) * 2;
}

function countBits(bits: Uint8Array): number {
  let count = 0;
  for (const byte of bits) for (let rest = byte; rest !== 0; rest &= rest - 1) count++;
  return count;
}
