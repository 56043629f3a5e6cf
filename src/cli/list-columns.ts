// SPDX-License-Identifier: MIT
// What `vmar list` tells of a backup, wherever that lies.

import { diskBytes, type Manifest } from '../../formats/vmar/manifest.js';
import { formatTime } from '../../formats/vmar/names.js';
import { formatGuest } from '../store/backup-id.js';
import type { Column } from './table.js';

export const LIST_COLUMNS: readonly Column[] = [
  { title: 'backup' },
  { title: 'time' },
  { title: 'size', align: 'right' },
  { title: 'disks' },
];

/** What the manifest itself tells. */
export function listedFacts(manifest: Manifest) {
  return {
    guest: formatGuest(manifest),
    time: formatTime(manifest.timeSeconds),
    size: diskBytes(manifest),
    disks: manifest.disks.map(({ name, sizeBytes }) => ({ name, size: sizeBytes })),
  };
}
