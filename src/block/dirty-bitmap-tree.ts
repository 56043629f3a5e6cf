// SPDX-License-Identifier: MIT
// Bits by number, 0 … n − 1, kept in a tree that spends memory only where set and clear bits lie mixed. Each level up
// says in one word which children hold a set bit and which a clear one: a search passes over 32 children at a glance.

/** Bits of a leaf: 512 bytes where bits are mixed. */
export const LEAF_BITS = 4096;
const FAN_OUT = 32;
const ALL = 0xffff_ffff;

/** Sees the set bits in ascending order: runs of leaves that are all set, and mixed leaves. */
export interface BitVisitor {
  full(first: number, count: number): void;
  /** Bit n of `words` is bit `first` + n; those from `count` on are clear. */
  mixed(first: number, count: number, words: Uint32Array): void;
}

/** A subtree: `capacity` bits, numbered from 0. Callers keep indexes inside. */
export interface BitTree {
  readonly capacity: number;
  /** How many bits are set. */
  readonly count: number;
  get(index: number): boolean;
  /** Sets or clears [from, to), which is not empty; gives the change of `count`. */
  fill(from: number, to: number, value: boolean): number;
  /** The first bit in [from, to) that is `value`, or -1. */
  find(from: number, to: number, value: boolean): number;
  clone(): BitTree;
  visit(base: number, visitor: BitVisitor): void;
}

/** All bits `value`. */
export function makeBitTree(capacity: number, value = false): BitTree {
  let childBits = LEAF_BITS;
  if (capacity <= childBits) return new Leaf(capacity, value);
  while (childBits * FAN_OUT < capacity) childBits *= FAN_OUT;
  return new Branch(capacity, childBits, value);
}

class Leaf implements BitTree {
  count: number;
  readonly words: Uint32Array;

  constructor(
    readonly capacity: number,
    value: boolean,
    words?: Uint32Array,
  ) {
    this.count = 0;
    this.words = words ?? new Uint32Array(Math.ceil(capacity / 32));
    if (value) this.fill(0, capacity, true);
  }

  get(index: number): boolean {
    return ((this.words[index >>> 5]! >>> (index & 31)) & 1) === 1;
  }

  fill(from: number, to: number, value: boolean): number {
    let change = 0;
    const last = (to - 1) >>> 5;
    for (let at = from >>> 5; at <= last; at++) {
      const old = this.words[at]!;
      const mask = maskWithin(at, from, to);
      const now = (value ? old | mask : old & ~mask) >>> 0;
      if (now === old) continue;
      this.words[at] = now;
      change += popCount(now) - popCount(old);
    }
    this.count += change;
    return change;
  }

  find(from: number, to: number, value: boolean): number {
    if (from >= to) return -1;
    const flip = value ? 0 : ALL;
    const last = (to - 1) >>> 5;
    for (let at = from >>> 5; at <= last; at++) {
      const word = this.words[at]! ^ flip;
      if (word === 0) continue;
      const found = word & maskWithin(at, from, to);
      if (found !== 0) return at * 32 + trailingZeros(found);
    }
    return -1;
  }

  clone(): Leaf {
    const copy = new Leaf(this.capacity, false, this.words.slice());
    copy.count = this.count;
    return copy;
  }

  visit(base: number, visitor: BitVisitor): void {
    if (this.count === 0) return;
    if (this.count === this.capacity) visitor.full(base, this.capacity);
    else visitor.mixed(base, this.capacity, this.words);
  }
}

/** A child is all clear (its bit in `#set` is 0), all set (its bit in `#clear` is 0), or mixed (an object). */
class Branch implements BitTree {
  count: number;
  /** Bit n: child n holds a set bit. */
  #set: number;
  /** Bit n: child n holds a clear bit, or lies past the end. */
  #clear: number;
  readonly #children: (BitTree | undefined)[];

  constructor(
    readonly capacity: number,
    readonly childBits: number,
    value: boolean,
  ) {
    const children = Math.ceil(capacity / childBits);
    const all = children === FAN_OUT ? ALL : 2 ** children - 1;
    this.count = value ? capacity : 0;
    this.#set = value ? all : 0;
    this.#clear = value ? ~all : ALL;
    this.#children = new Array<BitTree | undefined>(children).fill(undefined);
  }

  get(index: number): boolean {
    const at = Math.floor(index / this.childBits);
    if (!bitOf(this.#set, at)) return false;
    if (!bitOf(this.#clear, at)) return true;
    return this.#children[at]!.get(index - at * this.childBits);
  }

  fill(from: number, to: number, value: boolean): number {
    let change = 0;
    const last = Math.floor((to - 1) / this.childBits);
    for (let at = Math.floor(from / this.childBits); at <= last; at++) {
      const base = at * this.childBits;
      change += this.#fillChild(at, Math.max(0, from - base), Math.min(this.childBits, to - base), value);
    }
    this.count += change;
    return change;
  }

  #fillChild(at: number, from: number, to: number, value: boolean): number {
    const [hasSet, hasClear] = [bitOf(this.#set, at), bitOf(this.#clear, at)];
    if (value ? !hasClear : !hasSet) return 0;
    const capacity = Math.min(this.childBits, this.capacity - at * this.childBits);
    let child = this.#children[at];
    if (to - from === capacity) {
      const old = child?.count ?? (hasSet ? capacity : 0);
      this.#mark(at, value);
      return (value ? capacity : 0) - old;
    }
    if (child === undefined) {
      child = this.#makeChild(capacity, hasSet);
      this.#children[at] = child;
      this.#set |= 1 << at;
      this.#clear |= 1 << at;
    }
    const change = child.fill(from, to, value);
    if (child.count === 0) this.#mark(at, false);
    else if (child.count === capacity) this.#mark(at, true);
    return change;
  }

  /** A child that is all set or all clear is a mark, no object. */
  #mark(at: number, value: boolean): void {
    this.#children[at] = undefined;
    const bit = 1 << at;
    this.#set = value ? this.#set | bit : this.#set & ~bit;
    this.#clear = value ? this.#clear & ~bit : this.#clear | bit;
  }

  #makeChild(capacity: number, value: boolean): BitTree {
    if (this.childBits === LEAF_BITS) return new Leaf(capacity, value);
    return new Branch(capacity, this.childBits / FAN_OUT, value);
  }

  find(from: number, to: number, value: boolean): number {
    if (from >= to) return -1;
    const first = Math.floor(from / this.childBits);
    const last = Math.floor((to - 1) / this.childBits);
    let left = (value ? this.#set : this.#clear) & maskWithin(0, first, last + 1);
    while (left !== 0) {
      const at = trailingZeros(left);
      left &= left - 1;
      const base = at * this.childBits;
      const start = Math.max(0, from - base);
      const child = this.#children[at];
      if (child === undefined) return base + start;
      const found = child.find(start, Math.min(child.capacity, to - base), value);
      if (found >= 0) return base + found;
    }
    return -1;
  }

  clone(): Branch {
    const copy = new Branch(this.capacity, this.childBits, false);
    copy.count = this.count;
    copy.#set = this.#set;
    copy.#clear = this.#clear;
    for (const [at, child] of this.#children.entries()) copy.#children[at] = child?.clone();
    return copy;
  }

  visit(base: number, visitor: BitVisitor): void {
    for (let left = this.#set; left !== 0; left &= left - 1) {
      const at = trailingZeros(left);
      const from = at * this.childBits;
      const child = this.#children[at];
      if (child !== undefined) child.visit(base + from, visitor);
      else visitor.full(base + from, Math.min(this.childBits, this.capacity - from));
    }
  }
}

/** The bits of word `at` that lie in [from, to); at least one does. */
function maskWithin(at: number, from: number, to: number): number {
  const low = Math.max(0, from - at * 32);
  const high = Math.min(32, to - at * 32);
  return (ALL << low) & (ALL >>> (32 - high));
}

function bitOf(word: number, at: number): boolean {
  return ((word >>> at) & 1) === 1;
}

function trailingZeros(word: number): number {
  return 31 - Math.clz32(word & -word);
}

function popCount(word: number): number {
  const pairs = word - ((word >>> 1) & 0x5555_5555);
  const nibbles = (pairs & 0x3333_3333) + ((pairs >>> 2) & 0x3333_3333);
  return Math.imul((nibbles + (nibbles >>> 4)) & 0x0f0f_0f0f, 0x0101_0101) >>> 24;
}
