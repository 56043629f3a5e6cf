// SPDX-License-Identifier: MIT
// vmar verify --list: when each pack was last read whole, and by which backups it is needed.

import { relative } from 'node:path';
import { formatTime } from '../../formats/vmar/names.js';
import { isPackId, type PackId } from '../store/layout.js';
import { type PackHistory, readPackHistory } from '../store/pack-history.js';
import type { Context } from './context.js';
import { counted, humanAge, humanSize, humanTime } from './human.js';
import { openStore } from './open-store.js';
import { printable } from './printable.js';
import { renderTable } from './table.js';

/** A pack by its id or by its file, as damage is reported. */
const PACK_FILE = /(?:^|\/)([0-9a-f]{32})\.vmar$/;

export interface PackListWish {
  /** Backups and packs; none: all packs. */
  readonly names: readonly string[];
  /** Only those that were not read for so long. */
  readonly olderThanMillis: number | undefined;
}

export async function printPacks(context: Context, { names, olderThanMillis }: PackListWish): Promise<void> {
  const packs = names.flatMap((name) => packOf(name) ?? []);
  const backups = names.filter((name) => packOf(name) === undefined);
  const now = Date.now();
  const store = await openStore(context);
  try {
    const found = await readPackHistory(store.root, store.log, { packs, backups });
    const latest = olderThanMillis === undefined ? now : now - olderThanMillis;
    const listed = found.filter(({ readMillis = 0 }) => readMillis <= latest);
    const isNamed = names.length > 0;
    context.output.result(
      () => ({ packs: listed.map((pack) => asDocument(store.root, pack, now, isNamed)) }),
      () => (packs.length > 0 ? listed.map((pack) => asText(pack, now)).join('\n') : asTable(context, listed, now)),
    );
  } finally {
    await store.close();
  }
}

function packOf(name: string): PackId | undefined {
  return isPackId(name) ? name : PACK_FILE.exec(name)?.[1];
}

function asDocument(
  root: string,
  { packId, path, fileBytes, readMillis, damage, neededBy }: PackHistory,
  now: number,
  isNamed: boolean,
) {
  return {
    ...{ pack: packId, file: relative(root, path) },
    ...(fileBytes === undefined ? { gone: true } : { size: fileBytes }),
    ...(readMillis === undefined
      ? {}
      : { read: formatTime(Math.floor(readMillis / 1000)), age: ageOf(readMillis, now) }),
    ...(damage === undefined ? {} : { damaged: damage.problem }),
    backups: neededBy.length,
    guests: byGuest(neededBy).map(([guest, backups]) => ({ guest, backups })),
    ...(isNamed ? { neededBy } : {}),
  };
}

function ageOf(readMillis: number, now: number): number {
  return Math.max(0, Math.floor((now - readMillis) / 1000));
}

function byGuest(backups: readonly string[]): [guest: string, backups: number][] {
  const guests = new Map<string, number>();
  for (const backup of backups) {
    const guest = backup.slice(0, backup.lastIndexOf('/'));
    guests.set(guest, (guests.get(guest) ?? 0) + 1);
  }
  return [...guests];
}

const SHOWN_GUESTS = 3;

function asTable({ output }: Context, packs: readonly PackHistory[], now: number): string {
  if (packs.length === 0) return 'no packs';
  const columns = [
    { title: 'PACK' },
    { title: 'SIZE', align: 'right' as const },
    { title: 'READ WHOLE' },
    { title: 'NEEDED BY' },
  ];
  const rows = packs.map((pack) => [
    pack.packId,
    pack.fileBytes === undefined ? output.paint('red', 'gone') : humanSize(pack.fileBytes),
    `${wasRead(pack, now)}${pack.damage === undefined ? '' : `, ${output.paint('red', 'damaged')}`}`,
    needers(pack),
  ]);
  return renderTable(output.paint, columns, rows);
}

function wasRead({ readMillis }: PackHistory, now: number): string {
  return readMillis === undefined ? 'never' : `${humanAge(ageOf(readMillis, now))} ago`;
}

function needers({ neededBy }: PackHistory): string {
  const guests = byGuest(neededBy);
  if (guests.length === 0) return 'no backup';
  const shown = guests.slice(0, SHOWN_GUESTS).map(([guest, count]) => `${guest} (${count})`);
  const rest = guests.length - shown.length;
  return [...shown, ...(rest > 0 ? [`${counted(rest, 'more guest')}`] : [])].join(', ');
}

function asText(pack: PackHistory, now: number): string {
  const { packId, fileBytes, readMillis, damage, neededBy } = pack;
  const size = fileBytes === undefined ? 'gone' : humanSize(fileBytes);
  const read = readMillis === undefined ? '' : ` (${humanTime(readMillis / 1000)})`;
  return [
    `pack ${packId}: ${size}; read whole: ${wasRead(pack, now)}${read}`,
    ...(damage === undefined ? [] : [`damaged: ${printable(damage.problem)}`]),
    neededBy.length === 0 ? 'no backup needs it' : `${counted(neededBy.length, 'backup')} ${need(neededBy)} it:`,
    ...neededBy.map((backup) => `  ${backup}`),
  ].join('\n');
}

function need({ length }: readonly string[]): string {
  return length === 1 ? 'needs' : 'need';
}
