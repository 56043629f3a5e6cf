// SPDX-License-Identifier: MIT
// Which part of a read has come. Chunks may come in any order, but none twice and none missing.

export class Coverage {
  readonly #lengthBytes: number;
  /** Disjoint, ascending, never touching: [from, to, from, to, …]. Nearly always one range that grows. */
  #edges: number[] = [];

  constructor(lengthBytes: number) {
    this.#lengthBytes = lengthBytes;
  }

  get isComplete(): boolean {
    if (this.#lengthBytes === 0) return true;
    return this.#edges.length === 2 && this.#edges[0] === 0 && this.#edges[1] === this.#lengthBytes;
  }

  /** False, and no change, where it is empty, not inside, or overlaps what has come before. */
  add(from: number, lengthBytes: number): boolean {
    const to = from + lengthBytes;
    if (!(from >= 0 && lengthBytes > 0 && to <= this.#lengthBytes)) return false;
    const edges = this.#edges;
    // The first range that ends at `from` or later.
    let at = edges.length;
    while (at > 0 && edges[at - 1]! >= from) at -= 2;
    const next = edges[at] === undefined || edges[at + 1]! > from ? at : at + 2;
    if (edges[next] !== undefined && edges[next] < to) return false;
    const joinsBefore = next > 0 && edges[next - 1] === from;
    const joinsAfter = edges[next] === to;
    if (joinsBefore && joinsAfter) edges.splice(next - 1, 2);
    else if (joinsBefore) edges[next - 1] = to;
    else if (joinsAfter) edges[next] = from;
    else edges.splice(next, 0, from, to);
    return true;
  }
}
