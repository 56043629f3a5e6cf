// SPDX-License-Identifier: MIT
// What the arguments of a copy ask for.

import { UsageError } from '../base/errors.js';
import { parseCount, parseWait, parseWorkers } from './parse-count.js';
import { parseSize } from './parse-size.js';

export interface CopyFlags {
  readonly to?: string;
  readonly from?: string;
  readonly guest?: readonly string[];
  readonly all?: boolean;
  readonly dryRun?: boolean;
  readonly minFree?: string;
  readonly level?: string;
  readonly wait?: string | true;
  readonly workers?: string;
}

/** Names are of the datastore that is copied from. */
export type WantedBackups =
  | { readonly kind: 'named'; readonly names: readonly string[] }
  | { readonly kind: 'guests'; readonly guests: readonly string[] }
  | { readonly kind: 'all' };

export interface CopyWish {
  readonly wanted: WantedBackups;
  /** The datastore that is not that of --datastore, and on which side it stands. */
  readonly other: string;
  readonly isPull: boolean;
  readonly isDryRun: boolean;
  readonly minFreeBytes: number;
  readonly level: number;
  readonly waitSeconds: number;
  readonly workers?: number;
}

const MOST_LEVEL = 22;

export function parseCopy(names: readonly string[], flags: CopyFlags): CopyWish {
  const { to, from } = flags;
  const other = to ?? from;
  if (other === undefined || (to !== undefined && from !== undefined)) {
    throw new UsageError('which-datastore', 'one other datastore is needed, to copy to or from', {
      ...(other === undefined ? {} : { object: '--to and --from' }),
      advice: 'Give --to DIR or --from DIR; the other one is that of --datastore.',
    });
  }
  return {
    ...{ wanted: parseWanted(names, flags), other, isPull: from !== undefined, isDryRun: flags.dryRun === true },
    minFreeBytes: flags.minFree === undefined ? 0 : parseSize(flags.minFree, '--min-free'),
    level: flags.level === undefined ? 1 : parseCount(flags.level, '--level', 1, MOST_LEVEL),
    waitSeconds: parseWait(flags.wait),
    ...parseWorkers(flags.workers),
  };
}

function parseWanted(names: readonly string[], { guest, all }: CopyFlags): WantedBackups {
  const given = [names.length > 0, guest !== undefined, all === true].filter(Boolean).length;
  if (given !== 1) {
    throw new UsageError('which-backups', given === 0 ? 'no backup was named' : 'backups are named in one way only', {
      advice: 'Name backups, or give --guest GUEST for all of a guest, or --all.',
    });
  }
  if (all === true) return { kind: 'all' };
  return guest === undefined ? { kind: 'named', names } : { kind: 'guests', guests: guest };
}
