// SPDX-License-Identifier: MIT
// What a backup and a guest are called: as values, as full ids (`ns/vm/100/2026-11-21T02:00:00Z`), and as people type them.

import { formatTime, isName, isNamespace, parseTime } from '../../formats/vmar/names.js';
import { NotFoundError, UsageError } from '../base/errors.js';

export interface GuestRef {
  /** "" for none; parts are separated by "/". */
  readonly namespace: string;
  readonly guestType: 'vm';
  readonly guestId: string;
}

export interface BackupRef extends GuestRef {
  /** Seconds since 1970; unique for the guest. */
  readonly timeSeconds: number;
}

/** `vm/100` or `ns/vm/100`. */
export function formatGuest(guest: GuestRef): string {
  const own = `${guest.guestType}/${guest.guestId}`;
  return guest.namespace === '' ? own : `${guest.namespace}/${own}`;
}

/** The full id. */
export function formatBackupId(backup: BackupRef): string {
  return `${formatGuest(backup)}/${formatTime(backup.timeSeconds)}`;
}

export function sameGuest(a: GuestRef, b: GuestRef): boolean {
  return a.guestId === b.guestId && a.namespace === b.namespace;
}

/** Costs milliseconds to make: only lists need it. */
let byNumber: Intl.Collator | undefined;

/** Order of lists: namespace, guest (numbers by value), time. */
export function compareBackups(a: BackupRef, b: BackupRef): number {
  return compareGuests(a, b) || a.timeSeconds - b.timeSeconds;
}

export function compareGuests(a: GuestRef, b: GuestRef): number {
  if (a.namespace !== b.namespace) return a.namespace < b.namespace ? -1 : 1;
  if (a.guestId === b.guestId) return 0;
  byNumber ??= new Intl.Collator('en', { numeric: true });
  return byNumber.compare(a.guestId, b.guestId) || (a.guestId < b.guestId ? -1 : 1);
}

/** A guest from `100`, `vm/100` or `ns/vm/100`; undefined for anything else. */
export function parseGuest(text: string): GuestRef | undefined {
  const parts = text.split('/');
  const type = parts.length === 1 ? -1 : parts.indexOf('vm');
  const namespace = parts.slice(0, Math.max(0, type)).join('/');
  const guestId = parts[type + 1];
  if (parts.length !== type + 2 || (parts.length > 1 && type < 0) || guestId === undefined) return undefined;
  if (!isName(guestId) || (namespace !== '' && !isNamespace(namespace))) return undefined;
  return { namespace, guestType: 'vm', guestId };
}

/** A backup from its full id; undefined for anything else. */
export function parseBackupId(text: string): BackupRef | undefined {
  const cut = text.lastIndexOf('/');
  const timeSeconds = parseTime(text.slice(cut + 1));
  const guest = cut < 0 || !text.slice(0, cut).includes('/') ? undefined : parseGuest(text.slice(0, cut));
  return guest === undefined || timeSeconds === undefined ? undefined : { ...guest, timeSeconds };
}

/** The guest that a backup is to be made for. */
export function requireGuest(text: string): GuestRef {
  const guest = parseGuest(text);
  if (guest !== undefined) return guest;
  throw new UsageError('bad-guest', 'this is not the id of a guest', {
    object: text,
    expected:
      '100, or NAMESPACE/vm/100; letters, digits, ".", "_" and "-", 63 at most, beginning with a letter or digit',
  });
}

const SHOWN = 5;

function ambiguous(text: string, candidates: readonly string[]): UsageError {
  const more = candidates.length > SHOWN ? ` and ${candidates.length - SHOWN} more` : '';
  return new UsageError('ambiguous', 'more than one fits', {
    object: text,
    found: candidates.slice(0, SHOWN).join(', ') + more,
    advice: 'Give the full id.',
  });
}

/**
 * The guests that `text` names among those that have backups: `100` in any namespace, or a full `ns/vm/100`.
 * @throws NotFoundError if there is none, UsageError if several namespaces have one.
 */
export function resolveGuest(text: string, guests: readonly GuestRef[]): GuestRef {
  const found = guests.filter((guest) => guest.guestId === text || formatGuest(guest) === text);
  if (found[0] === undefined) {
    throw new NotFoundError('no-such-guest', 'no backup of such a guest', {
      object: text,
      advice: 'See `vmar list` for what there is.',
    });
  }
  if (found.length > 1) throw ambiguous(text, found.map(formatGuest));
  return found[0];
}

/**
 * The backup that `text` names among `all`: a full id; a guest (`100`, `ns/vm/100`), alone or with `/latest`, for its
 * newest; or the beginning of one full id, or of one `100/TIME`.
 * @throws NotFoundError if there is none, UsageError if more than one fits.
 */
export function resolveBackup(text: string, all: readonly BackupRef[]): BackupRef {
  const exact = all.find((backup) => formatBackupId(backup) === text);
  if (exact !== undefined) return exact;
  const guestText = text.endsWith('/latest') ? text.slice(0, -'/latest'.length) : text;
  const ofGuest = all.filter((backup) => backup.guestId === guestText || formatGuest(backup) === guestText);
  if (ofGuest.length > 0) return newest(guestText, ofGuest);
  const begun = all.filter((backup) => begins(backup, text));
  if (begun[0] === undefined || text === '') {
    throw new NotFoundError('no-such-backup', 'no such backup', {
      object: text,
      advice: 'See `vmar list` for what there is.',
    });
  }
  if (begun.length > 1) throw ambiguous(text, begun.map(formatBackupId));
  return begun[0];
}

function newest(guestText: string, ofGuest: readonly BackupRef[]): BackupRef {
  const guests = new Set(ofGuest.map(formatGuest));
  if (guests.size > 1) throw ambiguous(guestText, [...guests]);
  return ofGuest.reduce((a, b) => (b.timeSeconds > a.timeSeconds ? b : a));
}

/** The guest must be whole in the short form: `10` never stands for guest 100. */
function begins(backup: BackupRef, text: string): boolean {
  const short = `${backup.guestId}/${formatTime(backup.timeSeconds)}`;
  return formatBackupId(backup).startsWith(text) || (text.includes('/') && short.startsWith(text));
}
