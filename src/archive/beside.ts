// SPDX-License-Identifier: MIT
// What may change about a backup, to go along where it goes.

import { VmarError } from '../base/errors.js';
import type { BackupDescription } from '../plugin-api.js';
import type { OpenBackup } from './open-backup.js';

/** Nothing where it is damaged. */
export function beside(backup: OpenBackup): Pick<BackupDescription, 'labels' | 'notes' | 'isProtected'> {
  try {
    const { labels = new Map(), notes = '', isProtected = false } = backup.sidecar ?? {};
    return { labels, notes, isProtected };
  } catch (error) {
    // It was said when the backup was opened.
    if (error instanceof VmarError) return {};
    throw error;
  }
}
