// SPDX-License-Identifier: MIT
// The block layer's one interface. Devices and filters implement it; jobs are written against it.

/** What a range holds. `zero`: reads as zeros without being stored (a hole), so that it need not be read. */
export type BlockState = 'data' | 'zero';

export interface BlockExtent {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly state: BlockState;
  /** True where it is not the device's own, but shows through from its backing. Absent: its own, or there is no backing. */
  readonly backed?: boolean;
}

/**
 * A byte-addressed device of fixed length.
 *
 * Every operation may be called while others run. Ranges past the end are refused with a UsageError. A failed operation
 * rejects and leaves unknown content in its own range only. What was written is durable once a later `flush` resolves.
 */
export interface BlockDevice {
  /** For messages: the path or URI. */
  readonly name: string;
  readonly lengthBytes: number;
  /** Offsets and lengths that are multiples of it are handled without read-modify-write; 1 where all are equal. */
  readonly alignmentBytes: number;
  readonly readOnly: boolean;
  /**
   * A descriptor whose positioned reads give the device's bytes, so that other threads can read past this object. Stays
   * the device's.
   */
  readonly fd?: number;
  /** Fills `into` from `offsetBytes`. Never short: it fills all or rejects. */
  read(offsetBytes: number, into: Uint8Array): Promise<void>;
  /**
   * Reads without waiting, if all the bytes are at hand; for small reads, since it keeps the thread. False: nothing was
   * found out, `into` holds whatever, and `read` is to be asked. Never throws.
   */
  tryRead?(offsetBytes: number, into: Uint8Array): boolean;
  write(offsetBytes: number, from: Uint8Array): Promise<void>;
  /** Makes the range read as zeros; frees its space where the device can, unless `keepAllocated`. */
  writeZeroes(offsetBytes: number, lengthBytes: number, options?: { keepAllocated?: boolean }): Promise<void>;
  /** A hint that the content is not needed; afterwards it is unspecified. */
  discard(offsetBytes: number, lengthBytes: number): Promise<void>;
  /** Resolves when all writes that resolved before the call are durable. */
  flush(): Promise<void>;
  /**
   * What lies at `offsetBytes`, for at most `lengthBytes`: consecutive extents from there on, at least one, maybe fewer
   * than asked for, never past the range. Neighbours may be of equal state.
   */
  blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]>;
  /** A hint that the range will be read soon. Resolves when it is near, or at once; never rejects. */
  prefetch?(offsetBytes: number, lengthBytes: number): Promise<void>;
  /** Gives up descriptors and locks; nothing may be called after it. Does not flush. */
  close(): Promise<void>;
}
