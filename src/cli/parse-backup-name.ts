// SPDX-License-Identifier: MIT
// Whether a BACKUP on the command line is an archive file or lies in the datastore.

import { FailedError } from '../base/errors.js';

const FOREIGN = /\.vma(\.zst|\.gz|\.lzo)?$/;
const TAR = /\.tar(\.[a-z0-9]+)?$/;

/** Whether it is a file of Proxmox. */
export function isForeignArchive(text: string): boolean {
  return FOREIGN.test(text);
}

/** @throws FailedError for files of Proxmox and for tars, which cannot be read at any place. */
export function isArchiveName(text: string): boolean {
  if (isForeignArchive(text)) {
    throw new FailedError('foreign-archive', 'a .vma archive can be read only from front to back', {
      object: text,
      advice: 'Import it into a datastore first: vmar import. `verify`, `show`, `list` and `restore` take it as it is.',
    });
  }
  const isPath = text.startsWith('/') || text.startsWith('./') || text.startsWith('../');
  if (isPath && TAR.test(text)) {
    throw new FailedError('tar-archive', 'a tar can be read only from front to back', {
      object: text,
      advice: 'Import it into a datastore first, which checks all of it: vmar import.',
    });
  }
  return isPath || text.endsWith('.vmar');
}
