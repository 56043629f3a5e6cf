// SPDX-License-Identifier: MIT
// Which clusters of a device were seen. Memory follows what was seen, not what a header claims: a page of bits comes
// with its first cluster, and is given back when all its clusters were seen.

const PAGE_CLUSTERS = 4096 * 8;

interface Page {
  readonly bits: Uint8Array;
  seen: number;
}

/** Shared by the sets of one archive: what their pages may take together. */
export interface PageBudget {
  leftBytes: number;
}

export type Added = 'new' | 'twice' | 'over-budget';

export class ClusterSet {
  /** A page that is all seen is 'full'. */
  readonly #pages = new Map<number, Page | 'full'>();
  readonly #budget: PageBudget;
  #size = 0;

  /** @param clusters how many there are; callers stay below */
  constructor(
    readonly clusters: number,
    budget: PageBudget,
  ) {
    this.#budget = budget;
  }

  /** How many were seen. */
  get size(): number {
    return this.#size;
  }

  add(cluster: number): Added {
    const number = Math.floor(cluster / PAGE_CLUSTERS);
    const page = this.#pages.get(number) ?? this.#makePage(number);
    if (page === 'full') return 'twice';
    if (page === undefined) return 'over-budget';
    const bit = cluster % PAGE_CLUSTERS;
    const mask = 1 << (bit & 7);
    const byte = page.bits[bit >>> 3] ?? 0;
    if ((byte & mask) !== 0) return 'twice';
    page.bits[bit >>> 3] = byte | mask;
    page.seen++;
    this.#size++;
    if (page.seen === this.#clustersOf(number)) {
      this.#pages.set(number, 'full');
      this.#budget.leftBytes += page.bits.byteLength;
    }
    return 'new';
  }

  /** The first cluster that was not seen, or undefined when all were. Time grows with what was seen. */
  firstMissing(): number | undefined {
    if (this.#size === this.clusters) return undefined;
    let number = 0;
    while (this.#pages.get(number) === 'full') number++;
    const page = this.#pages.get(number);
    let bit = 0;
    if (page !== undefined && page !== 'full') {
      while (((page.bits[bit >>> 3] ?? 0) & (1 << (bit & 7))) !== 0) bit++;
    }
    return number * PAGE_CLUSTERS + bit;
  }

  #makePage(number: number): Page | undefined {
    const lengthBytes = Math.ceil(this.#clustersOf(number) / 8);
    if (this.#budget.leftBytes < lengthBytes) return undefined;
    this.#budget.leftBytes -= lengthBytes;
    const page = { bits: new Uint8Array(lengthBytes), seen: 0 };
    this.#pages.set(number, page);
    return page;
  }

  #clustersOf(number: number): number {
    return Math.min(PAGE_CLUSTERS, this.clusters - number * PAGE_CLUSTERS);
  }
}
