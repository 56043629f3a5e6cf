// SPDX-License-Identifier: MIT
// vmar notes

import { EXIT, type ExitStatus, UsageError } from '../../base/errors.js';
import { formatBackupId } from '../../store/backup-id.js';
import { setNotes } from '../../store/notes.js';
import type { Context } from '../context.js';
import { findBackups } from '../find-backups.js';
import { lookAtNamed } from '../open-named-backup.js';
import { withStore } from '../open-store.js';

export interface NotesFlags {
  readonly set?: string;
}

/** More is a document, not notes. */
const MOST_BYTES = 1 << 20;

export async function run(context: Context, name: string, { set }: NotesFlags): Promise<ExitStatus> {
  return set === undefined ? await print(context, name) : await change(context, name, set);
}

async function print(context: Context, name: string): Promise<ExitStatus> {
  const backup = await lookAtNamed(context, name);
  const notes = backup.sidecar?.notes ?? '';
  context.output.result(
    () => ({ backup: backup.name, notes }),
    () => notes,
  );
  return EXIT.done;
}

async function change(context: Context, name: string, notes: string): Promise<ExitStatus> {
  if (Buffer.byteLength(notes) > MOST_BYTES) {
    throw new UsageError('notes-too-long', 'the notes are too long', {
      object: '--set',
      expected: `at most ${MOST_BYTES} bytes`,
    });
  }
  return await withStore(context, async (store) => {
    const [backup] = await findBackups(store.root, [name], 'given notes');
    await setNotes(store, backup!, notes);
    const id = formatBackupId(backup!);
    context.output.summary(
      () => ({ backup: id, notes }),
      () => `${id} has ${notes === '' ? 'no notes' : 'other notes'} now`,
    );
    return EXIT.done;
  });
}
