// SPDX-License-Identifier: MIT
// Where things lie in a datastore (formats/vmar/SPEC.md §8): paths from values, and values from names.

import { createHash } from 'node:crypto';
import { basename, join, resolve } from 'node:path';
import { formatTime, parseTime } from '../../formats/vmar/names.js';
import { toHex } from '../base/bytes.js';
import { type BackupRef, formatGuest, type GuestRef } from './backup-id.js';

export const SUPERBLOCK_NAME = 'datastore.pb';
/** The directories of every datastore. */
export const DIRECTORIES = ['packs', 'manifests', 'state', 'tmp', 'locks'] as const;

/** A pack's id in 32 hex digits. */
export type PackId = string;

const PACK_ID = /^[0-9a-f]{32}$/;
const PACK_NAME = /^([0-9a-f]{32})\.vmar$/;
const PACK_PREFIX = /^[0-9a-f]{2}$/;
const RUN_LOCK = /^job-.+\.lock$/;
const SESSION_LOCK = /^session-([0-9a-f]{32})\.lock$/;

export function superblockPath(root: string): string {
  return join(root, SUPERBLOCK_NAME);
}

export function directoryPath(root: string, directory: (typeof DIRECTORIES)[number]): string {
  return join(root, directory);
}

/** The directory that a pack lies in; made when the first one comes. */
export function packDirectory(root: string, id: PackId): string {
  return join(root, 'packs', id.slice(0, 2));
}

export function packPath(root: string, id: PackId): string {
  return join(packDirectory(root, id), `${id}.vmar`);
}

export function isPackId(text: string): text is PackId {
  return PACK_ID.test(text);
}

export function isPackPrefix(name: string): boolean {
  return PACK_PREFIX.test(name);
}

/** The id from a file name in packs/xx/; undefined if no pack is called so there. */
export function parsePackName(prefix: string, name: string): PackId | undefined {
  const id = PACK_NAME.exec(name)?.[1];
  return id?.startsWith(prefix) ? id : undefined;
}

/** The pack that a path names; undefined if it is that of something else. */
export function packIdOfPath(root: string, path: string): PackId | undefined {
  const id = PACK_NAME.exec(basename(path))?.[1];
  return id !== undefined && path === packPath(root, id) ? id : undefined;
}

export function guestDirectory(root: string, guest: GuestRef): string {
  return join(root, 'manifests', formatGuest(guest));
}

export function manifestPath(root: string, backup: BackupRef): string {
  return join(guestDirectory(root, backup), manifestName(backup.timeSeconds));
}

export function sidecarPath(root: string, backup: BackupRef): string {
  return join(guestDirectory(root, backup), sidecarName(backup.timeSeconds));
}

export function manifestName(timeSeconds: number): string {
  return `${formatTime(timeSeconds)}.manifest`;
}

export function sidecarName(timeSeconds: number): string {
  return `${formatTime(timeSeconds)}.sidecar`;
}

/** What a file in a guest's directory is, by its name; undefined for a stray one. */
export function parseGuestFile(name: string): { kind: 'manifest' | 'sidecar'; timeSeconds: number } | undefined {
  const dot = name.lastIndexOf('.');
  const kind = name.slice(dot + 1);
  const timeSeconds = dot < 0 ? undefined : parseTime(name.slice(0, dot));
  if (timeSeconds === undefined || (kind !== 'manifest' && kind !== 'sidecar')) return undefined;
  return { kind, timeSeconds };
}

export function sessionTmpPath(root: string, sessionId: string): string {
  return join(root, 'tmp', sessionId);
}

export function sessionLockPath(root: string, sessionId: string): string {
  return join(root, 'locks', `session-${sessionId}.lock`);
}

/** Held by gc and repair. */
export function maintenanceLockPath(root: string): string {
  return join(root, 'locks', 'gc.lock');
}

/** The session's id from the name of its lock file. */
export function parseSessionLock(name: string): string | undefined {
  return SESSION_LOCK.exec(name)?.[1];
}

/** Held by the run of a job that has the report of this name, without its ending, while the run is under way. */
export function runLockPath(root: string, reportName: string): string {
  return join(root, 'locks', `job-${reportName}.lock`);
}

export function isRunLock(name: string): boolean {
  return RUN_LOCK.test(name);
}

/** Where a host keeps its chunk index of a datastore, in the directory of its caches. */
export function indexDirectory(cacheDir: string, storeUuid: Uint8Array): string {
  return resolve(cacheDir, toHex(storeUuid));
}

/** Longest file name that every file system takes, less the affixes. */
const LONGEST_LOCK_WORD = 200;

/**
 * A guest's lock file. "+" is in no name, so that two guests never share a file; a name too long for a file system is
 * its digest instead, after "=", which is in no name either.
 */
export function guestLockPath(root: string, guest: GuestRef): string {
  const plain = formatGuest(guest).replaceAll('/', '+');
  const word = plain.length <= LONGEST_LOCK_WORD ? plain : `=${createHash('sha256').update(plain).digest('hex')}`;
  return join(root, 'locks', `guest-${word}.lock`);
}
