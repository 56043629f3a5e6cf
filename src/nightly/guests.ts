// SPDX-License-Identifier: MIT
// The guests of a backup job as they are now: those of the file, and those whose sockets are found.

import { readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { FailedError, systemErrorCode } from '../base/errors.js';
import { compareGuests, parseGuest } from '../store/backup-id.js';
import type { GuestChoice, GuestConfig, GuestSource } from './config.js';
import { choosesGuest, fillPattern, matchPattern } from './guest-patterns.js';

export interface JobGuests {
  /** In the order of lists. */
  readonly guests: readonly GuestConfig[];
  /** Names and patterns that fit no guest that is there now, and why. */
  readonly missing: readonly { readonly name: string; readonly error: FailedError }[];
}

/**
 * The guests that the choice names. Those of the file come before those that patterns find.
 * @throws FailedError if there is none at all, or a directory cannot be looked into
 */
export function findJobGuests(configured: Iterable<GuestConfig>, { include, exclude }: GuestChoice): JobGuests {
  const known = [...configured];
  const all = [...allGuests(known).values()];
  const guests = all.filter(({ name }) => {
    const isOf = (patterns: readonly string[]): boolean => patterns.some((pattern) => choosesGuest(pattern, name));
    return isOf(include) && !isOf(exclude);
  });
  if (guests.length === 0) throw noGuest(include.join(', '), known);
  const missing = include.filter((pattern) => !all.some(({ name }) => choosesGuest(pattern, name)));
  return {
    guests: guests.sort((a, b) => compareNames(a.name, b.name)),
    missing: missing.map((name) => ({ name, error: noGuest(name, known) })),
  };
}

/**
 * Names of the guests that there are now: those of the file, and those whose sockets are found; where a directory may not be
 * looked into, there are none.
 */
export function guestNamesNow(configured: Iterable<GuestConfig>): string[] {
  return [...configured].flatMap((guest) => {
    if (!guest.isPattern) return [guest.name];
    try {
      return foundGuests(guest).map(({ name }) => name);
    } catch (error) {
      if (error instanceof FailedError) return [];
      throw error;
    }
  });
}

function compareNames(a: string, b: string): number {
  const [guestA, guestB] = [parseGuest(a), parseGuest(b)];
  return guestA === undefined || guestB === undefined ? (a < b ? -1 : 1) : compareGuests(guestA, guestB);
}

/** A job that backs up nothing, night after night, must not look like one that works. */
function noGuest(pattern: string, guests: readonly GuestConfig[]): FailedError {
  const sockets = guests.flatMap(({ isPattern, source }) =>
    isPattern && source.kind === 'qmp' ? [source.socket] : [],
  );
  return new FailedError('no-guests', 'there is no guest to back up', {
    object: pattern,
    ...(sockets.length === 0 ? {} : { found: `no socket that fits, of ${sockets.join(', ')}` }),
    advice: 'Check that the guests run, and the guests of the job: `vmar job check`.',
  });
}

function allGuests(guests: readonly GuestConfig[]): Map<string, GuestConfig> {
  const all = new Map<string, GuestConfig>();
  const patterns: GuestConfig[] = [];
  for (const guest of guests) {
    if (guest.isPattern) patterns.push(guest);
    else all.set(guest.name, guest);
  }
  for (const pattern of patterns) {
    for (const guest of foundGuests(pattern)) if (!all.has(guest.name)) all.set(guest.name, guest);
  }
  return all;
}

/** A name that no guest may have is left to the backup, which refuses it: so it is said. */
function foundGuests(pattern: GuestConfig): GuestConfig[] {
  const { source } = pattern;
  if (source.kind !== 'qmp') return [];
  return matchingPaths(source.socket).map((middle) => ({
    name: fillPattern(pattern.name, middle),
    isPattern: false,
    source: fillSource(source, middle),
    configs: pattern.configs.map((path) => fillPattern(path, middle)),
    blobs: new Map([...pattern.blobs].map(([name, path]) => [name, fillPattern(path, middle)] as const)),
    bytesPerSecond: pattern.bytesPerSecond,
  }));
}

function fillSource(source: GuestSource & { readonly kind: 'qmp' }, middle: string): GuestSource {
  const { agent, fleece, socket, ...others } = source;
  return {
    ...others,
    socket: fillPattern(socket, middle),
    ...(agent === undefined ? {} : { agent: fillPattern(agent, middle) }),
    ...(fleece === undefined ? {} : { fleece: fillPattern(fleece, middle) }),
  };
}

/** What the "*" stands for in each path that is there. The star may be in any part of the path. */
function matchingPaths(pattern: string): string[] {
  const parts = pattern.split('/');
  const at = parts.findIndex((part) => part.includes('*'));
  const directory = parts.slice(0, at).join('/') || '/';
  const middles = namesIn(directory).flatMap((name) => matchPattern(parts[at] ?? '', name) ?? []);
  const rest = parts.slice(at + 1);
  if (rest.length === 0) return middles;
  return middles.filter((middle) => {
    const path = join(directory, fillPattern(parts[at] ?? '', middle), ...rest);
    return namesIn(dirname(path)).includes(basename(path));
  });
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return [];
    throw new FailedError('no-permission', `the guests cannot be looked for: ${code}`, {
      object: directory,
      cause: error,
    });
  }
}
