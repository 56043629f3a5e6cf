// SPDX-License-Identifier: MIT
// Numbers that look random and are the same for the same seed.

export interface Random {
  /** A whole number in [least, most]. */
  integer(least: number, most: number): number;
  /** True once in `n` times. */
  oneIn(n: number): boolean;
  bytes(length: number): Uint8Array;
}

/** SplitMix32. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x9e3779b9) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return (mixed ^ (mixed >>> 15)) >>> 0;
  };
  const integer = (least: number, most: number) => least + Math.floor((next() / 2 ** 32) * (most - least + 1));
  return {
    integer,
    oneIn: (n) => integer(1, n) === 1,
    bytes(length) {
      const words = new Uint32Array(Math.ceil(length / 4));
      for (let at = 0; at < words.length; at++) words[at] = next();
      return new Uint8Array(words.buffer, 0, length);
    },
  };
}
