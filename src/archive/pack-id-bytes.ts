// SPDX-License-Identifier: MIT
// The id of a pack as bytes.

import { fromHex } from '../base/bytes.js';
import { BugError } from '../base/errors.js';
import type { PackId } from '../store/layout.js';

/** The 16 bytes of a pack's id. */
export function packIdBytes(packId: PackId): Uint8Array {
  const bytes = fromHex(packId, 16);
  if (bytes === undefined) throw new BugError(`not the id of a pack: ${packId}`);
  return bytes;
}
