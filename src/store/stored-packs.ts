// SPDX-License-Identifier: MIT
// The packs of a datastore as they lie on the disk: which there are, and what their tables say.

import { join } from 'node:path';
import type { VmarError } from '../base/errors.js';
import { ContainerReader } from './container-reader.js';
import { type DirectoryEntry, isShut, listDirectory } from './directory-entries.js';
import { isPackPrefix, type PackId, packPath, parsePackName } from './layout.js';

export interface PackList {
  /** In no order. */
  readonly ids: PackId[];
  /** Paths of what does not belong there. */
  readonly strange: string[];
  /** Directories of packs that nobody can look into, by the two digits that their packs begin with. */
  readonly shut: Map<string, VmarError>;
}

/** Lists the packs by the names in the directory tree; opens none. */
export async function listPacks(root: string): Promise<PackList> {
  const list: PackList = { ids: [], strange: [], shut: new Map() };
  const packs = join(root, 'packs');
  for (const prefix of (await listDirectory(packs)) ?? []) {
    const directory = join(packs, prefix.name);
    if (prefix.kind !== 'directory' || !isPackPrefix(prefix.name)) list.strange.push(directory);
    else await addPacks(list, directory, prefix.name);
  }
  return list;
}

async function addPacks(list: PackList, directory: string, prefix: string): Promise<void> {
  for (const entry of await entriesOf(list, directory, prefix)) {
    const id = entry.kind === 'file' ? parsePackName(prefix, entry.name) : undefined;
    if (id === undefined) list.strange.push(join(directory, entry.name));
    else list.ids.push(id);
  }
}

async function entriesOf(list: PackList, directory: string, prefix: string): Promise<DirectoryEntry[]> {
  try {
    return (await listDirectory(directory)) ?? [];
  } catch (error) {
    if (!isShut(error)) throw error;
    list.shut.set(prefix, error);
    return [];
  }
}

/** What an index needs of a pack. */
export interface PackTable {
  /** The last 16 bytes of the pack. */
  readonly footerSeal: Uint8Array;
  /** The entries of its chunk table, verified, sorted by id, 48 bytes each, end to end; any number a piece. */
  readonly pages: Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
}

/**
 * Reads the chunk table of a pack. The pages are read as they are asked for; the pack is closed after the last.
 * @throws DamageError, also while the pages are read.
 */
export async function readPackTable(root: string, id: PackId): Promise<PackTable> {
  const reader = ContainerReader.open(packPath(root, id));
  try {
    return { footerSeal: reader.readBytes(reader.fileBytes - 16, 16), pages: tablePages(reader) };
  } catch (error) {
    reader.close();
    throw error;
  }
}

function* tablePages(reader: ContainerReader): Generator<Uint8Array> {
  try {
    for (let page = 0; page < reader.chunkPageCount; page++) yield reader.chunkPage(page);
  } finally {
    reader.close();
  }
}
