// SPDX-License-Identifier: MIT
// Sets of places in a list as runs of neighbours: what touches a backup mostly touches those after it too. And lists of
// ascending numbers. Both are 32-bit little-endian integers end to end.

const RUN_BYTES = 8;
const NUMBER_BYTES = 4;

export interface Run {
  readonly first: number;
  readonly count: number;
}

/** Of ascending numbers. */
export function runsOf(places: Iterable<number>): Run[] {
  const runs: { first: number; count: number }[] = [];
  for (const place of places) {
    const last = runs.at(-1);
    if (last !== undefined && last.first + last.count === place) last.count++;
    else runs.push({ first: place, count: 1 });
  }
  return runs;
}

export function placesOf(runs: readonly Run[]): number[] {
  return runs.flatMap(({ first, count }) => Array.from({ length: count }, (_, at) => first + at));
}

export function encodeRuns(runs: readonly Run[]): Uint8Array {
  const bytes = Buffer.alloc(runs.length * RUN_BYTES);
  for (const [at, { first, count }] of runs.entries()) {
    bytes.writeUInt32LE(first, at * RUN_BYTES);
    bytes.writeUInt32LE(count, at * RUN_BYTES + 4);
  }
  return bytes;
}

/** Undefined if they are not ascending with gaps between them, or reach past `end`. */
export function decodeRuns(bytes: Uint8Array, end: number): Run[] | undefined {
  if (bytes.byteLength % RUN_BYTES !== 0) return undefined;
  const runs: Run[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let before = -1;
  for (let at = 0; at < bytes.byteLength; at += RUN_BYTES) {
    const first = view.getUint32(at, true);
    const count = view.getUint32(at + 4, true);
    if (first <= before || count === 0 || first + count > end) return undefined;
    runs.push({ first, count });
    before = first + count;
  }
  return runs;
}

export function encodeNumbers(numbers: readonly number[]): Uint8Array {
  const bytes = Buffer.alloc(numbers.length * NUMBER_BYTES);
  for (const [at, number] of numbers.entries()) bytes.writeUInt32LE(number, at * NUMBER_BYTES);
  return bytes;
}

/** Undefined if they are not ascending. */
export function decodeNumbers(bytes: Uint8Array): number[] | undefined {
  if (bytes.byteLength % NUMBER_BYTES !== 0) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const numbers: number[] = [];
  for (let at = 0; at < bytes.byteLength; at += NUMBER_BYTES) {
    const number = view.getUint32(at, true);
    if (number <= (numbers.at(-1) ?? -1)) return undefined;
    numbers.push(number);
  }
  return numbers;
}
