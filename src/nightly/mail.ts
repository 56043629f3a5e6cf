// SPDX-License-Identifier: MIT
// A mail as sendmail takes it: headers in ASCII, a body of UTF-8 in quoted-printable, so that no line is too long and no
// byte out of place, whatever a guest is called.

import { randomBytes } from 'node:crypto';

export interface Mail {
  readonly from: string;
  readonly to: readonly string[];
  readonly subject: string;
  readonly body: string;
  readonly dateMillis: number;
  readonly hostName: string;
}

export function renderMail({ from, to, subject, body, dateMillis, hostName }: Mail): string {
  return [
    `From: ${from}`,
    `To: ${to.join(',\n ')}`,
    `Subject: ${encodeWords(subject)}`,
    `Date: ${new Date(dateMillis).toUTCString().replace('GMT', '+0000')}`,
    `Message-ID: <${randomBytes(16).toString('hex')}@${hostName.replace(/[^A-Za-z0-9.-]/g, '') || 'localhost'}>`,
    'MIME-Version: 1.0',
    'Content-Type: text/plain; charset=utf-8',
    'Content-Transfer-Encoding: quoted-printable',
    // No answers of the kind "I am on holiday".
    'Auto-Submitted: auto-generated',
    '',
    quotedPrintable(body),
    '',
  ].join('\n');
}

/** RFC 2047: an encoded word holds 75 characters, so it carries 45 bytes, and never a part of a character. */
const WORD_BYTES = 45;

function encodeWords(text: string): string {
  const line = text.replace(/[\r\n]+/g, ' ');
  if (/^[ -~]*$/.test(line)) return line;
  const words: string[] = [];
  let word = '';
  for (const character of line) {
    if (Buffer.byteLength(word + character) > WORD_BYTES) {
      words.push(word);
      word = '';
    }
    word += character;
  }
  words.push(word);
  return words.map((each) => `=?utf-8?B?${Buffer.from(each).toString('base64')}?=`).join('\n ');
}

const LONGEST_LINE = 76;

/** RFC 2045. */
export function quotedPrintable(text: string): string {
  return text
    .split(/\r?\n/)
    .map((line) => breakLine([...Buffer.from(line)].map(quoteByte)))
    .join('\n');
}

function quoteByte(byte: number, at: number, all: readonly number[]): string {
  const isLast = at === all.length - 1;
  const isPlain = byte >= 0x20 && byte <= 0x7e && byte !== 0x3d;
  // Blanks at the end of a line get lost; "From" and "." at its beginning mean something to mailers.
  const isAwkward = (byte === 0x20 && isLast) || (at === 0 && (byte === 0x46 || byte === 0x2e));
  return isPlain && !isAwkward ? String.fromCharCode(byte) : `=${byte.toString(16).toUpperCase().padStart(2, '0')}`;
}

function breakLine(pieces: readonly string[]): string {
  const lines: string[] = [];
  let line = '';
  for (const [at, piece] of pieces.entries()) {
    // The last line needs no room for the "=" of a soft break.
    const most = at === pieces.length - 1 ? LONGEST_LINE : LONGEST_LINE - 1;
    if (line.length + piece.length > most) {
      lines.push(`${line}=`);
      line = '';
    }
    line += piece;
  }
  return [...lines, line].join('\n');
}
