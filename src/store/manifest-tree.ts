// SPDX-License-Identifier: MIT
// Walks manifests/: which guests there are, and the names of their backups. Opens no file.

import { join } from 'node:path';
import { isName, isNamespace } from '../../formats/vmar/names.js';
import { DamageError, type VmarError } from '../base/errors.js';
import { type BackupRef, compareBackups, type GuestRef } from './backup-id.js';
import { type DirectoryEntry, isShut, listDirectory } from './directory-entries.js';
import { guestDirectory, parseGuestFile, sidecarName } from './layout.js';

export interface ManifestNames {
  /** In the order of `compareBackups`. */
  readonly backups: BackupRef[];
  /** Those of `backups`, the very values, that have a sidecar, or what has the name of one. */
  readonly withSidecar: Set<BackupRef>;
  /** Paths of what does not belong there: no name of ours, or a sidecar without a manifest. */
  readonly strange: string[];
  /** What cannot be looked into: nobody can say which backups are there. */
  readonly lost: LostPlace[];
}

/** A link that leads nowhere, a directory that cannot be read, or `manifests` if it is gone and packs are there. */
export interface LostPlace {
  readonly path: string;
  readonly error: VmarError;
}

export interface WalkOptions {
  /** Directories of guests and namespaces that cannot be read are `lost`, and stop nothing. */
  readonly isLenient?: boolean;
}

/** The names of all backups, or of one guest's. */
export async function listManifestNames(
  root: string,
  guest?: GuestRef,
  options: WalkOptions = {},
): Promise<ManifestNames> {
  const names: ManifestNames = { backups: [], withSidecar: new Set(), strange: [], lost: [] };
  if (guest === undefined) await walkNamespace(names, root, '', options);
  else await addGuest(names, root, guest);
  names.backups.sort(compareBackups);
  return names;
}

/** Goes into a directory; one that cannot be read is lost. */
async function entering(
  names: ManifestNames,
  path: string,
  { isLenient = false }: WalkOptions,
  walk: () => Promise<void>,
): Promise<void> {
  try {
    await walk();
  } catch (error) {
    if (!isLenient || !isShut(error)) throw error;
    names.lost.push({ path: error.object ?? path, error });
  }
}

async function walkNamespace(
  names: ManifestNames,
  root: string,
  namespace: string,
  options: WalkOptions,
): Promise<void> {
  const directory = join(root, 'manifests', namespace);
  const entries = await listDirectory(directory);
  if (entries === undefined && namespace === '' && (await hasPacks(root)))
    names.lost.push({ path: directory, error: lost(directory, 'it is gone') });
  for (const entry of entries ?? []) {
    const path = join(directory, entry.name);
    const inner = namespace === '' ? entry.name : `${namespace}/${entry.name}`;
    if (entry.kind !== 'directory') addStrange(names, path, entry);
    else if (entry.name === 'vm')
      await entering(names, path, options, () => addGuests(names, root, namespace, options));
    else if (isNamespace(inner)) await entering(names, path, options, () => walkNamespace(names, root, inner, options));
    else names.strange.push(path);
  }
}

async function addGuests(names: ManifestNames, root: string, namespace: string, options: WalkOptions): Promise<void> {
  const directory = join(root, 'manifests', namespace, 'vm');
  for (const entry of (await listDirectory(directory)) ?? []) {
    const path = join(directory, entry.name);
    const guest: GuestRef = { namespace, guestType: 'vm', guestId: entry.name };
    if (entry.kind !== 'directory' || !isName(entry.name)) addStrange(names, path, entry);
    else await entering(names, path, options, () => addGuest(names, root, guest));
  }
}

async function addGuest(names: ManifestNames, root: string, guest: GuestRef): Promise<void> {
  const directory = guestDirectory(root, guest);
  const { namespace, guestType, guestId } = guest;
  const entries = (await listDirectory(directory)) ?? [];
  const backups = new Map<number, BackupRef>();
  const sidecars: number[] = [];
  for (const entry of entries) {
    // Whatever has a manifest's name stands for a backup, though it may be none that can be read.
    const file = parseGuestFile(entry.name);
    if (file === undefined) addStrange(names, join(directory, entry.name), entry);
    else if (file.kind === 'sidecar') sidecars.push(file.timeSeconds);
    else backups.set(file.timeSeconds, { namespace, guestType, guestId, timeSeconds: file.timeSeconds });
  }
  for (const backup of backups.values()) names.backups.push(backup);
  for (const time of sidecars) {
    const backup = backups.get(time);
    if (backup === undefined) names.strange.push(join(directory, sidecarName(time)));
    else names.withSidecar.add(backup);
  }
}

async function hasPacks(root: string): Promise<boolean> {
  return ((await listDirectory(join(root, 'packs'))) ?? []).length > 0;
}

function addStrange(names: ManifestNames, path: string, { kind }: DirectoryEntry): void {
  if (kind === 'lost') names.lost.push({ path, error: lost(path, 'the symbolic link leads nowhere') });
  else names.strange.push(path);
}

function lost(object: string, problem: string): DamageError {
  return new DamageError('manifests-lost', problem, { object, offsetBytes: 0 });
}
