// SPDX-License-Identifier: MIT
// Small decoders for JSON values that come from elsewhere. Each takes a value and its place in the message, and gives a
// typed value or throws AnswerFault, which names the place.

export class AnswerFault extends Error {}

export type Decoder<T> = (value: unknown, place: string) => T;

export type JsonRecord = Readonly<Record<string, unknown>>;

export const record: Decoder<JsonRecord> = (value, place) => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw fault(place, 'an object');
  return value as JsonRecord;
};

export const text: Decoder<string> = (value, place) => {
  if (typeof value !== 'string') throw fault(place, 'a text');
  return value;
};

export const flag: Decoder<boolean> = (value, place) => {
  if (typeof value !== 'boolean') throw fault(place, 'true or false');
  return value;
};

/** A whole number that is not negative and exact. */
export const count: Decoder<number> = (value, place) => {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw fault(place, 'a count');
  return value;
};

export function list<T>(item: Decoder<T>): Decoder<readonly T[]> {
  return (value, place) => {
    if (!Array.isArray(value)) throw fault(place, 'a list');
    return value.map((one, at) => item(one, `${place}[${at}]`));
  };
}

/** A member that must be there. */
export function member<T>(of: JsonRecord, name: string, decode: Decoder<T>, place: string): T {
  return decode(of[name], place === '' ? name : `${place}.${name}`);
}

/** A member that may be missing. */
export function maybe<T>(of: JsonRecord, name: string, decode: Decoder<T>, place: string): T | undefined {
  return of[name] === undefined ? undefined : member(of, name, decode, place);
}

/** For answers of which nothing is used. */
export const anything: Decoder<void> = () => undefined;

function fault(place: string, expected: string): AnswerFault {
  return new AnswerFault(`${place === '' ? 'the answer' : place} is not ${expected}`);
}
