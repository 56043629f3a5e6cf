// SPDX-License-Identifier: MIT
// Which bytes of a file an error is about, as narrow as its code tells.

import { statSync } from 'node:fs';
import { CONTAINER_HEADER_BYTES } from '../../../formats/vmar/container-header.js';
import { FOOTER_BYTES } from '../../../formats/vmar/trailer.js';
import type { VmarError } from '../../base/errors.js';

export interface DamagedRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** Codes of errors about the header of a container; of a newer version too. */
const HEADER_CODES: ReadonlySet<string> = new Set([
  'container-damaged',
  'pack-name',
  'newer-version',
  'unknown-feature',
]);

/** For a container that cannot be opened. */
export function rangeInContainer(error: VmarError): DamagedRange {
  if (HEADER_CODES.has(error.code)) return { offsetBytes: 0, lengthBytes: CONTAINER_HEADER_BYTES };
  const offsetBytes = error.offsetBytes ?? 0;
  return { offsetBytes, lengthBytes: error.code === 'footer-damaged' ? FOOTER_BYTES : 0 };
}

/** For a manifest, a sidecar, a superblock: one digest covers all of it. */
export function wholeFile(path: string): DamagedRange {
  return { offsetBytes: 0, lengthBytes: fileBytes(path) };
}

/** 0 for a file that is not there, or cannot be come to. */
export function fileBytes(path: string): number {
  try {
    return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  } catch {
    return 0;
  }
}
