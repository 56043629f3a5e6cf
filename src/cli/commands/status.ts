// SPDX-License-Identifier: MIT
// vmar status

import { formatTime } from '../../../formats/vmar/names.js';
import { EXIT, type ExitStatus } from '../../base/errors.js';
import { formatBackupId, formatGuest } from '../../store/backup-id.js';
import { type GuestStatus, readStatus } from '../../store/guest-status.js';
import type { Context } from '../context.js';
import { findGuests } from '../find-guests.js';
import { counted, humanAge, humanSize, humanTime } from '../human.js';
import { withStore } from '../open-store.js';
import { parseDuration } from '../parse-duration.js';
import { renderTable } from '../table.js';

export interface StatusFlags {
  readonly maxAge?: string;
}

interface Judged extends GuestStatus {
  readonly isOverdue: boolean;
}

export async function run(context: Context, names: readonly string[], flags: StatusFlags): Promise<ExitStatus> {
  const maxAgeSeconds = flags.maxAge === undefined ? undefined : parseDuration(flags.maxAge, '--max-age');
  return await withStore(context, async ({ root }) => {
    const status = await readStatus(root, await findGuests(root, names), Math.floor(Date.now() / 1000));
    const guests = status.map((guest) => ({ ...guest, isOverdue: isOverdue(guest, maxAgeSeconds) }));
    context.output.result(
      () => asDocument(guests, maxAgeSeconds),
      () => asTable(context, guests),
    );
    for (const { path, error } of guests.flatMap(({ damaged }) => damaged)) {
      context.log.warn(`${path}: ${error.message}`);
    }
    if (guests.some((guest) => guest.isOverdue)) return EXIT.failed;
    return guests.some(({ damaged }) => damaged.length > 0) ? EXIT.damage : EXIT.done;
  });
}

/** Where nobody can tell how old it is, somebody should look. */
function isOverdue({ ageSeconds }: GuestStatus, maxAgeSeconds: number | undefined): boolean {
  return maxAgeSeconds !== undefined && (ageSeconds === undefined || ageSeconds > maxAgeSeconds);
}

function sizeOf({ last }: GuestStatus): number {
  return last?.manifest.disks.reduce((sum, disk) => sum + disk.sizeBytes, 0) ?? 0;
}

function asDocument(guests: readonly Judged[], maxAgeSeconds: number | undefined) {
  return {
    ok: !guests.some(({ isOverdue, damaged }) => isOverdue || damaged.length > 0),
    ...(maxAgeSeconds === undefined ? {} : { maxAge: maxAgeSeconds }),
    guests: guests.map((guest) => {
      const { last, ageSeconds, damaged, inFuture } = guest;
      return {
        guest: formatGuest(guest.guest),
        backups: guest.backups,
        ...(last === undefined ? {} : { last: formatBackupId(last.ref), time: formatTime(last.ref.timeSeconds) }),
        ...(ageSeconds === undefined ? {} : { age: ageSeconds }),
        size: sizeOf(guest),
        overdue: guest.isOverdue,
        ...(inFuture === 0 ? {} : { inFuture }),
        ...(damaged.length === 0
          ? {}
          : {
              damaged: damaged.map(({ ref, path, error }) => ({
                backup: formatBackupId(ref),
                file: path,
                message: error.message,
              })),
            }),
      };
    }),
  };
}

function asTable({ output }: Context, guests: readonly Judged[]): string {
  if (guests.length === 0) return output.quiet ? '' : 'no backups';
  const columns = [
    { title: 'guest' },
    { title: 'last good backup' },
    { title: 'age' },
    { title: 'size', align: 'right' as const },
    { title: 'backups', align: 'right' as const },
    { title: '' },
  ];
  const rows = guests.map((guest) => {
    const { last, ageSeconds } = guest;
    const row = [
      formatGuest(guest.guest),
      last === undefined ? 'none' : humanTime(last.ref.timeSeconds),
      ageSeconds === undefined ? '' : humanAge(ageSeconds),
      last === undefined ? '' : humanSize(sizeOf(guest)),
      String(guest.backups),
      remark(guest),
    ];
    const isBad = guest.isOverdue || guest.damaged.length > 0;
    return isBad ? row.map((cell) => output.paint('red', cell)) : row;
  });
  return renderTable(output.paint, columns, rows);
}

function remark({ isOverdue, last, damaged, inFuture }: Judged): string {
  return [
    ...(isOverdue ? ['overdue'] : []),
    ...(damaged.length > 0
      ? [`${counted(damaged.length, last === undefined ? 'backup' : 'newer backup')} damaged`]
      : []),
    ...(inFuture > 0 ? [`${counted(inFuture, 'backup')} in the future: was the clock wrong?`] : []),
  ].join('; ');
}
