// SPDX-License-Identifier: MIT
// A disk of a backup by the name that a user gives it: `drive-scsi0` in full, or `scsi0` where that is unique.

import { NotFoundError, UsageError } from '../base/errors.js';

/** @throws NotFoundError if no disk has the name, UsageError if several end in it. */
export function findDisk<Disk extends { readonly name: string }>(
  manifest: { readonly disks: readonly Disk[] },
  name: string,
): Disk {
  const exact = manifest.disks.find((disk) => disk.name === name);
  if (exact !== undefined) return exact;
  const ending = manifest.disks.filter((disk) => disk.name.endsWith(`-${name}`));
  if (ending.length > 1) {
    throw new UsageError('ambiguous', `more than one disk is called ${name}`, {
      object: name,
      found: ending.map((disk) => disk.name).join(', '),
      advice: 'Give the full name.',
    });
  }
  if (ending[0] !== undefined) return ending[0];
  throw new NotFoundError('no-such-disk', `the backup has no disk ${name}`, {
    object: name,
    found: manifest.disks.map((disk) => disk.name).join(', ') || 'no disks',
  });
}
