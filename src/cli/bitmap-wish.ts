// SPDX-License-Identifier: MIT
// What the flags ask of NBD exports: which dirty bitmaps to go by, and what becomes of what was read.

import { UsageError } from '../base/errors.js';
import { isNbdUri } from '../nbd/client/nbd-uri.js';
import { formatBackupId, parseBackupId } from '../store/backup-id.js';
import type { DiskPair } from './parse-disk.js';
import { parsePair, refuseDuplicates } from './parse-pair.js';

export interface ExportFlags {
  readonly bitmap?: readonly string[];
  readonly parent?: string;
  readonly discardSource?: boolean;
}

export interface BitmapWish {
  readonly name: string;
  /** `new`: the bitmap begins with this backup. `reuse`: it began with the latest one, and says what changed since. */
  readonly mode: 'new' | 'reuse';
}

export interface ExportWish {
  /** By the disk's name. */
  readonly bitmaps: ReadonlyMap<string, BitmapWish>;
  /** Full id of the backup that the bitmaps follow. */
  readonly parent: string | undefined;
  /** Of NBD exports: what was read is discarded there. */
  readonly discardSource: boolean;
}

const SHAPE = 'NAME=BITMAP:new or NAME=BITMAP:reuse';
/** Of QEMU. */
const MOST_BITMAP_NAME_BYTES = 1023;

export function parseExportFlags(flags: ExportFlags, disks: readonly DiskPair[], intoDatastore: boolean): ExportWish {
  const pairs = (flags.bitmap ?? []).map((text) => parseBitmap(text, disks));
  refuseDuplicates(
    pairs.map(({ disk }) => disk),
    '--bitmap',
    'disk',
  );
  const bitmaps = new Map(pairs.map(({ disk, bitmap }) => [disk, bitmap]));
  if (bitmaps.size > 0 && !intoDatastore) {
    throw new UsageError('no-bitmaps-here', 'only a backup in a datastore can be the next one’s parent', {
      object: '--bitmap',
      advice: 'Leave --output or --bitmap out.',
    });
  }
  const discardSource = flags.discardSource === true;
  if (discardSource && !disks.some(({ place }) => isNbdUri(place))) {
    throw new UsageError('nothing-to-discard', '--discard-source makes sense only for NBD exports', {
      object: '--discard-source',
    });
  }
  return { bitmaps, parent: parseParent(flags.parent, bitmaps), discardSource };
}

function parseBitmap(text: string, disks: readonly DiskPair[]): { disk: string; bitmap: BitmapWish } {
  const [disk, value] = parsePair(text, '--bitmap', SHAPE);
  const cut = value.lastIndexOf(':');
  const [name, mode] = [value.slice(0, cut), value.slice(cut + 1)];
  if (cut < 1 || (mode !== 'new' && mode !== 'reuse')) {
    throw new UsageError('bad-bitmap', `this is not ${SHAPE}`, { object: `--bitmap ${text}` });
  }
  if (Buffer.byteLength(name) > MOST_BITMAP_NAME_BYTES) {
    throw new UsageError('bad-bitmap', 'no bitmap has so long a name', { object: `--bitmap ${text}` });
  }
  const found = disks.find((each) => each.name === disk) ?? disks.find((each) => each.name === `drive-${disk}`);
  if (found === undefined) {
    throw new UsageError('no-such-disk', 'a bitmap is given for a disk that is not', {
      object: `--bitmap ${text}`,
      advice: `Give the disk too: --disk ${disk}=URI.`,
    });
  }
  if (!isNbdUri(found.place)) {
    throw new UsageError('bitmap-of-image', 'bitmaps are told by NBD servers, and this disk is no NBD export', {
      object: `--disk ${found.name}=${found.place}`,
    });
  }
  return { disk: found.name, bitmap: { name, mode } };
}

function parseParent(text: string | undefined, bitmaps: ReadonlyMap<string, BitmapWish>): string | undefined {
  if (text === undefined) return undefined;
  const object = `--parent ${text}`;
  const backup = parseBackupId(text);
  if (backup === undefined) {
    throw new UsageError('bad-parent', 'this is not the full id of a backup', { object });
  }
  if (![...bitmaps.values()].some(({ mode }) => mode === 'reuse')) {
    throw new UsageError('needs-bitmap', '--parent makes sense only with --bitmap NAME=BITMAP:reuse', { object });
  }
  return formatBackupId(backup);
}
