// SPDX-License-Identifier: MIT
// Protobuf messages of untrusted bytes. Their digest was checked, so what fails here was written wrong.

import protobuf from 'protobufjs/minimal.js';
import type { Refusal } from './fields.js';
import type { vmar } from './generated/vmar.js';
import { type HashName, hashFromNumber, hashNumber } from './hash.js';

/** Field numbers of repeated messages, and how many of each are taken. */
export type RepeatedLimits = Readonly<Record<number, number>>;

/**
 * Decodes one message. Repeated fields are counted before any object is made for them, and unknown fields are dropped.
 * @throws DamageError if the payload is no message, or has too many of a repeated field
 */
export function decodeMessage<Message>(
  decode: (reader: protobuf.Reader) => Message,
  payload: Uint8Array,
  limits: RepeatedLimits,
  refuse: Refusal,
): Message {
  const excess = attempt(() => findExcess(payload, limits), refuse);
  if (excess !== undefined) throw refuse('a list in it is too long', { expected: `at most ${limits[excess]}` });
  const reader = protobuf.Reader.create(payload);
  reader.discardUnknown = true;
  return attempt(() => decode(reader), refuse);
}

function attempt<Result>(step: () => Result, refuse: Refusal): Result {
  try {
    return step();
  } catch (error) {
    throw refuse('its content is not a protobuf message', {
      found: error instanceof Error ? error.message : 'garbage',
    });
  }
}

/** The number of a repeated field that occurs more often than it may. */
function findExcess(payload: Uint8Array, limits: RepeatedLimits): number | undefined {
  const reader = protobuf.Reader.create(payload);
  const counts = new Map<number, number>();
  while (reader.pos < reader.len) {
    const tag = reader.tag();
    const field = tag >>> 3;
    reader.skipType(tag & 7, 0, tag);
    const limit = limits[field];
    if (limit === undefined) continue;
    const count = (counts.get(field) ?? 0) + 1;
    if (count > limit) return field;
    counts.set(field, count);
  }
  return undefined;
}

interface Bits64 {
  readonly low: number;
  readonly high: number;
}

/**
 * A 64-bit field as a number. protobufjs gives an object instead where the package `long` is installed, whatever the
 * types say. Numbers past 2^53 lose their last bits, and are no sizes either way.
 */
export function uint64(value: number | Bits64): number {
  if (typeof value === 'number') return value;
  return (value.high >>> 0) * 2 ** 32 + (value.low >>> 0);
}

/** The enum's numbers are those of headers. */
export function messageHash(hash: HashName): vmar.v1.Hash {
  return hashNumber(hash);
}

/** The algorithm that a message names; it must be that of its envelope. */
export function checkMessageHash(hash: vmar.v1.Hash, expected: HashName, refuse: Refusal): HashName {
  const found = hashFromNumber(hash);
  if (found !== expected) throw refuse('it names another hash algorithm than its envelope', { found: `${hash}` });
  return found;
}
