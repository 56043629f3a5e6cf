// SPDX-License-Identifier: MIT
// Whether a BACKUP on the command line is an archive file or lies in the datastore.

import { FailedError } from '../base/errors.js';

const FOREIGN = /\.vma(\.zst|\.gz|\.lzo)?$/;

/** @throws FailedError for the files of other programs, which a later version can import. */
export function isArchiveName(text: string): boolean {
  if (FOREIGN.test(text)) {
    throw new FailedError('not-yet', 'this is a VMA archive; importing those comes with a later version', {
      object: text,
      advice: 'Extract it with `vma extract` and back up the images.',
    });
  }
  return text.endsWith('.vmar') || text.startsWith('/') || text.startsWith('./') || text.startsWith('../');
}
