// SPDX-License-Identifier: MIT
// What the file names of vzdump tell: `vzdump-qemu-100-2026_11_21-02_00_00.vma.zst`. The time is local time.

import { basename } from 'node:path';

const NAME = /^vzdump-qemu-(\d{1,9})-(\d{4})_(\d\d)_(\d\d)-(\d\d)_(\d\d)_(\d\d)\.vma(\.zst|\.gz|\.lzo)?$/i;
const EXTENSION = /\.vma(\.zst|\.gz|\.lzo)?$/i;

export interface VzdumpName {
  readonly guestId: string;
  readonly timeSeconds: number;
}

/** undefined for any other name. */
export function parseVzdumpName(path: string): VzdumpName | undefined {
  const match = NAME.exec(basename(path));
  if (match === null) return undefined;
  const [year, month, day, hour, minute, second] = match.slice(2, 8).map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const date = new Date(year, month - 1, day, hour, minute, second);
  // 31 November is no day.
  if (date.getMonth() !== month - 1 || date.getDate() !== day || date.getTime() < 0) return undefined;
  return { guestId: String(Number(match[1])), timeSeconds: Math.floor(date.getTime() / 1000) };
}

/** As vzdump would call it, in local time. */
export function vzdumpName(guestId: string, timeSeconds: number): string {
  const date = new Date(timeSeconds * 1000);
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = [String(date.getFullYear()).padStart(4, '0'), two(date.getMonth() + 1), two(date.getDate())].join('_');
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join('_');
  return `vzdump-qemu-${guestId}-${day}-${time}.vma`;
}

/** The files that vzdump puts beside an archive. */
export function vzdumpCompanions(path: string): { notes: string; log: string; mark: string } | undefined {
  if (!EXTENSION.test(path)) return undefined;
  return { notes: `${path}.notes`, log: path.replace(EXTENSION, '.log'), mark: `${path}.protected` };
}
