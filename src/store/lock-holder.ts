// SPDX-License-Identifier: MIT
// Who holds a lock, as its file says: for people, and never trusted. A lock that nobody signed, or that was signed by who
// held it before, says nothing or something old.

import { closeSync, constants, openSync, readSync } from 'node:fs';
import { hostname } from 'node:os';

/** More is none of ours. */
const MOST_BYTES = 4096;

export interface LockHolder {
  /** "backup". */
  readonly doing: string;
  readonly host: string;
  readonly pid: number;
  readonly sinceMillis: number;
}

export function encodeHolder(doing: string): string {
  const holder: LockHolder = { doing, host: hostname(), pid: process.pid, sinceMillis: Date.now() };
  return `${JSON.stringify(holder)}\n`;
}

/** Undefined if the file does not say. */
export function readHolder(path: string): LockHolder | undefined {
  try {
    const value: unknown = JSON.parse(readFront(path));
    return isHolder(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function readFront(path: string): string {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const bytes = Buffer.alloc(MOST_BYTES);
    return bytes.toString('utf8', 0, readSync(fd, bytes, 0, MOST_BYTES, 0));
  } finally {
    closeSync(fd);
  }
}

function isHolder(value: unknown): value is LockHolder {
  if (typeof value !== 'object' || value === null) return false;
  if (!('doing' in value && 'host' in value && 'pid' in value && 'sinceMillis' in value)) return false;
  const { doing, host, pid, sinceMillis } = value;
  return (
    typeof doing === 'string' &&
    typeof host === 'string' &&
    Number.isSafeInteger(pid) &&
    Number.isSafeInteger(sinceMillis)
  );
}

/** "backup on web1, process 4711, since 2026-11-21T02:00:00Z" */
export function formatHolder({ doing, host, pid, sinceMillis }: LockHolder): string {
  const since = new Date(sinceMillis).toISOString().replace(/\.\d+Z$/, 'Z');
  return `${doing} on ${host}, process ${pid}, since ${since}`;
}

/** Whether this very machine signed, by its name. */
export function isOfThisHost({ host }: LockHolder): boolean {
  return host === hostname();
}
