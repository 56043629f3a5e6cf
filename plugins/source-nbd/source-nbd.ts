// SPDX-License-Identifier: MIT
// Source of disks that an NBD server exports.

import type { BlockDevice, SourcePlugin } from '../../src/plugin-api.js';

/** What the plugin needs from vmar. */
export interface NbdHost {
  /** Opens an export; rejects with a VmarError that names the URI. */
  openNbd(uri: string, options: { readonly readOnly: true; readonly signal?: AbortSignal }): Promise<BlockDevice>;
}

export function createNbdSource(host: NbdHost): SourcePlugin {
  return {
    kind: 'nbd',
    accepts: (target) => /^nbds?(\+unix)?:\/\//.test(target),
    // Who else uses the disk is the server's to know: there is no lock that could be passed over.
    open: (target, { signal }) => host.openNbd(target, { readOnly: true, ...(signal === undefined ? {} : { signal }) }),
  };
}
