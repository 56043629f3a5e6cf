// SPDX-License-Identifier: MIT
// What a .vma file says of itself at its beginning, and what lies beside it. Its clusters are not read.

import type { VmaHeader } from '../../../formats/vma/reader.js';
import type { Log } from '../../base/log.js';
import { type Companions, readCompanions } from './companions.js';
import { distinctConfigs, nameIn } from './import-vma.js';
import { openBytes } from './open-bytes.js';
import { VmaInput } from './vma-input.js';
import { parseVzdumpName } from './vzdump-name.js';

export interface VmaLook {
  readonly header: VmaHeader;
  readonly companions: Companions;
  /** By names that no two have. */
  readonly configs: readonly { readonly name: string; readonly content: Uint8Array }[];
  /** As an import would have them, where anything tells. */
  readonly guestId: string | undefined;
  readonly guestName: string | undefined;
  readonly timeSeconds: number;
}

/** @throws DamageError if it is none or its header is not whole, NotFoundError, FailedError */
export async function lookAtVma(path: string, log: Log): Promise<VmaLook> {
  const stream = await openBytes(path);
  try {
    const { header } = await VmaInput.open(stream);
    const companions = await readCompanions(path, log);
    const named = parseVzdumpName(path);
    return {
      header,
      companions,
      configs: distinctConfigs(header.configs, companions.configs),
      guestId: named?.guestId,
      guestName: nameIn(header),
      timeSeconds: named?.timeSeconds ?? header.timeSeconds,
    };
  } finally {
    await stream.close();
  }
}
