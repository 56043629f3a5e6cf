// SPDX-License-Identifier: MIT
// Which extents to check and how, and what was found.

import type { HashName } from '../../formats/vmar/hash.js';
import type { Implementation } from './thread-tools.js';

export interface VerifyJob {
  /** Of the container; stays open until the promise settles. */
  readonly fd: number;
  /** The container, for messages. */
  readonly object: string;
  readonly hash: HashName;
  readonly containerId: Uint8Array;
  /** Offset of the first extent. */
  readonly from: number;
  /** Offset of their end. */
  readonly to: number;
  readonly firstSequence: number;
  /** Number of the first frame in the container's frame table. */
  readonly firstFrame: number;
  /** 'quick' checks headers and tables, 'full' frames and chunks as well. */
  readonly mode: 'full' | 'quick';
  /** By default the executor's. */
  readonly implementation?: Implementation;
  /** Ends with the extent that reaches so many bytes, so that long containers can be walked in steps. */
  readonly stopAfterBytes?: number;
}

export interface VerifyDamage {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly kind: 'extent' | 'frame' | 'chunk' | 'read-error';
  /** A sentence without file and offset. */
  readonly problem: string;
  /** The chunks lost by it, 32 bytes each; empty where they are not known. */
  readonly ids: Uint8Array;
}

export interface VerifyReport {
  readonly extents: number;
  readonly frames: number;
  /** Chunks that the chunk table holds, those in extents of content 1 and 2, and their bytes, as the footer counts. */
  readonly chunks: number;
  readonly rawBytes: number;
  /** Stored bytes of all frames. */
  readonly storedBytes: number;
  readonly damage: VerifyDamage[];
  /** See TableSum; of the same chunks. */
  readonly tableSum: Uint8Array;
  /** False if an extent could not be read: then its chunks are missing from the sum, and later frame numbers are wrong. */
  readonly tableSumKnown: boolean;
  /** Where to go on, after `stopAfterBytes`: `from`, `firstSequence` and `firstFrame` of the next job. */
  readonly nextOffset: number;
  readonly nextSequence: number;
  readonly nextFrame: number;
}
