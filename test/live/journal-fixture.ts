// SPDX-License-Identifier: MIT
// A journal of a small disk, for tests.

import { DirtyBitmap } from '#vmar/src/block/dirty-bitmap.js';
import { Journal, type JournalOptions } from '#vmar/src/live/journal.js';
import type { JournalIdentity } from '#vmar/src/live/journal-header.js';
import { type LoadedJournal, loadJournal } from '#vmar/src/live/journal-load.js';
import type { StatePlace } from '#vmar/src/live/state-file.js';

export const GRANULE = 4096;

export function identityOf(sizeBytes: number): JournalIdentity {
  return {
    backup: { name: 'vm/100/2026-11-21T02:00:00Z', digest: 'ab', disk: 'scsi0', mapRoot: 'cd', sizeBytes },
    target: { path: '/target', kind: 'file', inode: '7', sizeBytes },
  };
}

export function optionsFor(place: StatePlace, sizeBytes: number, more: Partial<JournalOptions> = {}): JournalOptions {
  return { place, identity: identityOf(sizeBytes), bootId: 'boot-1', flushTarget: async () => undefined, ...more };
}

export async function newJournal(
  place: StatePlace,
  sizeBytes: number,
  more: Partial<JournalOptions> = {},
): Promise<Journal> {
  return await Journal.create(optionsFor(place, sizeBytes, more), new DirtyBitmap(sizeBytes, GRANULE));
}

export async function load(place: StatePlace, bootId = 'boot-1'): Promise<LoadedJournal> {
  const file = await place.open();
  if (file === undefined) throw new Error('there is no state file');
  return await loadJournal(file, place.path, bootId);
}

/** Numbers of the granules that are set. */
export function granulesOf(bitmap: DirtyBitmap): number[] {
  const found: number[] = [];
  for (let at = 0; at < bitmap.lengthBytes; at += GRANULE) if (bitmap.get(at)) found.push(at / GRANULE);
  return found;
}
