// SPDX-License-Identifier: MIT
// Golden files: test/golden/NAME.hex, 32 bytes a line. They change only when the format does. To write them anew, for a
// new layout: UPDATE_GOLDEN=1 npx vitest run test/formats

import { readFileSync, writeFileSync } from 'node:fs';
import { expect } from 'vitest';

const DIRECTORY = new URL('../../golden/', import.meta.url);
const LINE_DIGITS = 64;

/** Compares with the golden file, or writes it if told to. Gives the file's bytes. */
export function golden(name: string, bytes: Uint8Array): Uint8Array {
  const file = new URL(`${name}.hex`, DIRECTORY);
  const text = toLines(bytes);
  if (process.env.UPDATE_GOLDEN === '1') writeFileSync(file, text);
  const wanted = readFileSync(file, 'utf8');
  expect(text, `${name}.hex`).toBe(wanted);
  return fromLines(wanted);
}

/** The bytes of a golden file. */
export function readGolden(name: string): Uint8Array {
  return fromLines(readFileSync(new URL(`${name}.hex`, DIRECTORY), 'utf8'));
}

function fromLines(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text.replaceAll('\n', ''), 'hex'));
}

function toLines(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes).toString('hex');
  let lines = '';
  for (let at = 0; at < hex.length; at += LINE_DIGITS) lines += `${hex.slice(at, at + LINE_DIGITS)}\n`;
  return lines;
}
