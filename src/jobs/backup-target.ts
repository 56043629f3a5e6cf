// SPDX-License-Identifier: MIT
// Where the clusters of one disk go, be it a dump sink or a device.

import type { Claim } from '../block/claims.js';
import type { BlockDevice } from '../block/device.js';

/** A device whose bytes other threads can read past it. */
export type DeviceWithDescriptor = BlockDevice & { fd: number };

/**
 * Offsets and lengths are whole clusters of the disk, the last one at its true length. Calls may overlap in time, but
 * not in range.
 */
export interface ClusterTarget {
  readonly clusterSizeBytes: number;
  /** The most that one `write` takes: one or more whole clusters. */
  readonly pieceBytes: number;
  /** The most that one `writeZeroes` should be asked for, so that nobody waits for it long. */
  readonly zeroPieceBytes: number;
  /** What is unchanged need not be handed over. */
  readonly holdsUnchanged: boolean;
  /** After its first error nothing more is accepted. */
  readonly failsForGood: boolean;
  /** A slot of `pieceBytes` to fill; waits while too many are in use. */
  lease(): Promise<Uint8Array>;
  /** Gives a slot back unused. */
  release(slot: Uint8Array): void;
  /** Takes a slot, of which the leading bytes are filled; also when it rejects. */
  write(offsetBytes: number, slot: Uint8Array, lengthBytes: number): Promise<void>;
  writeZeroes(offsetBytes: number, lengthBytes: number): Promise<void>;
  /** Only where `holdsUnchanged`. */
  keep(offsetBytes: number, lengthBytes: number): Promise<void>;
  /** Reads by itself, maybe after it resolved: for a source that does not change. */
  writeFrom?(offsetBytes: number, lengthBytes: number, source: DeviceWithDescriptor): Promise<void>;
  /** What was written before may be there again: zeros are not there by themselves any more. */
  forgetZeros?(): void;
  /** The device, if it is one. */
  readonly device?: BlockDevice;
  /** Keeps others of this process from writing to it. */
  claim?(who: string): Claim;
  /** All is written. */
  flush(): Promise<void>;
}

export function hasDescriptor(device: BlockDevice): device is DeviceWithDescriptor {
  return device.fd !== undefined && device.fd >= 0;
}
