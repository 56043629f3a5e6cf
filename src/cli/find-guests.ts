// SPDX-License-Identifier: MIT
// The guests that a command line names.

import { compareGuests, formatGuest, type GuestRef, resolveGuest } from '../store/backup-id.js';
import { listManifestNames } from '../store/manifest-tree.js';

/**
 * The guests with backups that are named, or all if none is; each once, in the order of lists.
 * @throws NotFoundError if there is no such guest, UsageError if several namespaces have one.
 */
export async function findGuests(root: string, names: readonly string[]): Promise<GuestRef[]> {
  const { backups } = await listManifestNames(root);
  const all = new Map<string, GuestRef>();
  for (const { namespace, guestType, guestId } of backups) {
    const guest = { namespace, guestType, guestId };
    all.set(formatGuest(guest), guest);
  }
  if (names.length === 0) return [...all.values()].sort(compareGuests);
  const chosen = names.map((name) => resolveGuest(name, [...all.values()]));
  return [...new Set(chosen)].sort(compareGuests);
}
