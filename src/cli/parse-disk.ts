// SPDX-License-Identifier: MIT
// Disks on the command line: NAME=IMAGE to back up, NAME=TARGET to restore.

import { MAX_DISKS } from '../../formats/vmar/limits.js';
import { isName } from '../../formats/vmar/names.js';
import { UsageError } from '../base/errors.js';
import { isNbdUri, parseNbdUri } from '../nbd/client/nbd-uri.js';
import { parsePair, refuseDuplicates } from './parse-pair.js';

export interface DiskPair {
  readonly name: string;
  /** A path or a URI. */
  readonly place: string;
}

/** @throws UsageError for a bad or repeated name, a URI that is none, and for more disks than a backup holds. */
export function parseDisks(texts: readonly string[], shape: 'NAME=IMAGE' | 'NAME=TARGET'): readonly DiskPair[] {
  const disks = texts.map((text): DiskPair => {
    const [name, place] = parsePair(text, '--disk', shape);
    checkDiskName(name, '--disk');
    if (isNbdUri(place)) parseNbdUri(place);
    return { name, place };
  });
  refuseDuplicates(
    disks.map((disk) => disk.name),
    '--disk',
    'disk',
  );
  if (disks.length > MAX_DISKS) {
    throw new UsageError('too-many-disks', 'there are more disks than a backup can hold', {
      expected: `at most ${MAX_DISKS}`,
      found: `${disks.length}`,
    });
  }
  return disks;
}

export function checkDiskName(name: string, flag: string): void {
  if (isName(name)) return;
  throw new UsageError('bad-name', 'this is not the name of a disk', {
    object: `${flag} ${name}`,
    expected: 'letters, digits, ".", "_" and "-", 63 at most, beginning with a letter or digit',
  });
}
