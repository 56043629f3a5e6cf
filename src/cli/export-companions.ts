// SPDX-License-Identifier: MIT
// What goes beside an exported .vma file, as vzdump and its readers have it: notes, the log of its making, the mark that
// protects it. In the file itself there is no room for them.

import type { Manifest } from '../../formats/vmar/manifest.js';
import type { Sidecar } from '../../formats/vmar/sidecar.js';
import { isKeptLog, keptNotes } from '../archive/import/companions.js';
import { vzdumpCompanions } from '../archive/import/vzdump-name.js';
import type { BackupDescription } from '../plugin-api.js';
import { type ConfigFile, ConfigFiles } from './config-files.js';

type Configs = BackupDescription['configs'];

export interface Companionship {
  /** Those that belong into the archive. */
  readonly configs: Configs;
  /** To be written beside it; nothing where it goes into no directory. */
  readonly files: ConfigFiles;
  readonly paths: readonly string[];
  /** What is in neither. */
  readonly leftOut: readonly string[];
}

const WHEN_THERE = 'Choose another directory, or remove it first.';

/** @param path of the archive where it goes into a directory under vzdump's name */
export function companionsOf(
  { configs }: Pick<Manifest, 'configs'>,
  sidecar: Pick<Sidecar, 'notes' | 'isProtected'>,
  path: string | undefined,
): Companionship {
  const log = configs.find(({ name }) => isKeptLog(name));
  const { notes, rest } = keptNotes(
    configs.filter(({ name }) => !isKeptLog(name)),
    sidecar.notes,
  );
  const beside = path === undefined ? undefined : vzdumpCompanions(path);
  const wanted = [
    { what: 'notes', target: beside?.notes, content: notes },
    { what: 'log', target: beside?.log, content: log?.content },
    { what: 'mark of protection', target: beside?.mark, content: sidecar.isProtected ? new Uint8Array(0) : undefined },
  ];
  const files: ConfigFile[] = [];
  const leftOut: string[] = [];
  for (const { what, target, content } of wanted) {
    if (content === undefined) continue;
    if (target === undefined) leftOut.push(what);
    else files.push({ name: what, target, content });
  }
  const paths = files.map(({ target }) => target);
  return { configs: rest, files: new ConfigFiles(files, false, WHEN_THERE), paths, leftOut };
}
