// SPDX-License-Identifier: MIT
// `list` of an archive that stands alone: it holds one backup. On its own, so that `list` of a datastore loads no code that
// reads disks.

import type { Context } from './context.js';
import { humanSize, humanTime } from './human.js';
import { LIST_COLUMNS, listedFacts } from './list-columns.js';
import { withBackups } from './open-named-backup.js';
import { printable } from './printable.js';
import { renderTable } from './table.js';

export async function listArchive(context: Context, path: string): Promise<void> {
  await withBackups(context, [path], async ([archive]) => {
    const { output } = context;
    const { name, manifest } = archive!;
    const facts = listedFacts(manifest);
    output.result(
      () => ({ backups: [{ backup: name, ...facts, protected: false }] }),
      () => {
        const names = facts.disks.map((disk) => disk.name).join(', ');
        const row = [printable(name), humanTime(manifest.timeSeconds), humanSize(facts.size), names];
        return renderTable(output.paint, LIST_COLUMNS, [row]);
      },
    );
  });
}
