// SPDX-License-Identifier: MIT
// A filter that notes in a dirty bitmap what others change on the device below it.

import type { BlockNode } from '../block-node.js';
import type { DirtyBitmap } from '../dirty-bitmap.js';
import { checkRange } from '../range.js';
import { PassThrough } from './pass-through.js';

/** A change on its way to the device below. */
export type Change =
  | { readonly kind: 'write'; readonly offsetBytes: number; readonly lengthBytes: number; readonly from: Uint8Array }
  | { readonly kind: 'zero' | 'discard'; readonly offsetBytes: number; readonly lengthBytes: number };

export interface DirtyTrackingOptions {
  readonly bitmap: DirtyBitmap;
  /**
   * Stands around a change: does it by calling `apply`, once, and may do more before the change is acknowledged. It marks
   * what it leaves dirty by itself, then. Absent, or where it returns undefined: the change is done and marked.
   */
  readonly around?: (change: Change, apply: () => Promise<void>) => Promise<void> | undefined;
  /** Called after something was marked. */
  readonly onDirty?: () => void;
}

/**
 * A change is marked when it has ended, before it is acknowledged, and also if it failed, since its range then holds
 * unknown content. So whoever clears a mark and reads the device afterwards either reads the change whole or finds the
 * mark set again.
 */
export class DirtyTracking extends PassThrough {
  readonly #bitmap: DirtyBitmap;
  readonly #options: DirtyTrackingOptions;

  constructor(below: BlockNode, options: DirtyTrackingOptions) {
    super(below);
    this.#bitmap = options.bitmap;
    this.#options = options;
  }

  tryRead(offsetBytes: number, into: Uint8Array): boolean {
    return this.below.tryRead(offsetBytes, into);
  }

  override write(offsetBytes: number, from: Uint8Array): Promise<void> {
    const lengthBytes = from.byteLength;
    return this.#change({ kind: 'write', offsetBytes, lengthBytes, from }, () => this.below.write(offsetBytes, from));
  }

  override writeZeroes(offsetBytes: number, lengthBytes: number, options?: { keepAllocated?: boolean }): Promise<void> {
    const apply = () => this.below.writeZeroes(offsetBytes, lengthBytes, options);
    return this.#change({ kind: 'zero', offsetBytes, lengthBytes }, apply);
  }

  override discard(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.#change({ kind: 'discard', offsetBytes, lengthBytes }, () =>
      this.below.discard(offsetBytes, lengthBytes),
    );
  }

  async #change(change: Change, apply: () => Promise<void>): Promise<void> {
    checkRange(this, change.offsetBytes, change.lengthBytes);
    if (change.lengthBytes === 0) return;
    const around = this.#options.around?.(change, apply);
    if (around) return await around;
    try {
      await apply();
    } finally {
      this.#bitmap.set(change.offsetBytes, change.lengthBytes);
      this.#options.onDirty?.();
    }
  }
}
