// SPDX-License-Identifier: MIT
// Where the bytes of a pool lie: one SharedArrayBuffer with all slots, then all result areas. The main thread and the
// workers build the same views over it, each once, because making a view costs as much as hashing a kilobyte.

import { ID_BYTES, SEAL_BYTES } from '../../formats/vmar/hash.js';

/** All that a worker needs to see a pool's slots. */
export interface SharedSlots {
  readonly memory: SharedArrayBuffer;
  readonly count: number;
  readonly slotBytes: number;
  readonly clusterSizeBytes: number;
  /** Offset of slot 0; chosen so that its address is a multiple of SLOT_ALIGNMENT. */
  readonly firstOffsetBytes: number;
}

/** Addresses of slots are multiples of it, so that they serve O_DIRECT. */
export const SLOT_ALIGNMENT = 4096;
/** Compression results of a slot: codec, stored bytes, raw bytes, one spare (u32 each), then the seal. */
const FRAME_RESULT_BYTES = 16 + SEAL_BYTES;

function roundUp(bytes: number, unit: number): number {
  return Math.ceil(bytes / unit) * unit;
}

function strideBytes(shared: Pick<SharedSlots, 'slotBytes'>): number {
  return roundUp(shared.slotBytes, SLOT_ALIGNMENT);
}

function clustersPerSlot(shared: Pick<SharedSlots, 'slotBytes' | 'clusterSizeBytes'>): number {
  return Math.ceil(shared.slotBytes / shared.clusterSizeBytes);
}

function resultStrideBytes(shared: Pick<SharedSlots, 'slotBytes' | 'clusterSizeBytes'>): number {
  return roundUp(FRAME_RESULT_BYTES + clustersPerSlot(shared) * (ID_BYTES + 1), 64);
}

/** Bytes of memory for a pool, with room to align it. */
export function poolMemoryBytes(shared: Pick<SharedSlots, 'slotBytes' | 'clusterSizeBytes' | 'count'>): number {
  return SLOT_ALIGNMENT + shared.count * (strideBytes(shared) + resultStrideBytes(shared));
}

/** The index of the slot whose first byte lies at an offset of the memory, or undefined. */
export function slotIndexAt(shared: SharedSlots, offsetBytes: number): number | undefined {
  const index = (offsetBytes - shared.firstOffsetBytes) / strideBytes(shared);
  return Number.isInteger(index) && index >= 0 && index < shared.count ? index : undefined;
}

/** The views of one slot. */
export class SlotMemory {
  /** The slot's data. */
  readonly bytes: Buffer;
  /** Result of hashing: 32 bytes a cluster. */
  readonly ids: Uint8Array;
  /** Result of hashing: 1 a zero cluster. */
  readonly flags: Uint8Array;
  /** Result of compressing: codec, stored bytes, raw bytes. */
  readonly frame: Uint32Array;
  /** Result of compressing. */
  readonly seal: Uint8Array;
  readonly #clusterSizeBytes: number;
  readonly #clusters: Buffer[] = [];
  readonly #idViews: Uint8Array[] = [];

  constructor(shared: SharedSlots, index: number) {
    const { memory, firstOffsetBytes, slotBytes, clusterSizeBytes, count } = shared;
    this.bytes = Buffer.from(memory, firstOffsetBytes + index * strideBytes(shared), slotBytes);
    const clusters = clustersPerSlot(shared);
    const at = firstOffsetBytes + count * strideBytes(shared) + index * resultStrideBytes(shared);
    this.frame = new Uint32Array(memory, at, 4);
    this.seal = new Uint8Array(memory, at + 16, SEAL_BYTES);
    this.ids = new Uint8Array(memory, at + FRAME_RESULT_BYTES, clusters * ID_BYTES);
    this.flags = new Uint8Array(memory, at + FRAME_RESULT_BYTES + clusters * ID_BYTES, clusters);
    this.#clusterSizeBytes = clusterSizeBytes;
  }

  /** A whole cluster's bytes; the view is made once. */
  cluster(index: number): Buffer {
    const at = index * this.#clusterSizeBytes;
    this.#clusters[index] ??= this.bytes.subarray(at, at + this.#clusterSizeBytes);
    return this.#clusters[index];
  }

  /** Where a cluster's id goes; the view is made once. */
  idOf(index: number): Uint8Array {
    this.#idViews[index] ??= this.ids.subarray(index * ID_BYTES, (index + 1) * ID_BYTES);
    return this.#idViews[index];
  }

  get clusterSizeBytes(): number {
    return this.#clusterSizeBytes;
  }
}
