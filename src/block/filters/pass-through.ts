// SPDX-License-Identifier: MIT
// A filter that changes nothing: what others begin with.

import type { BlockNode, FilterDevice } from '../block-node.js';
import type { BlockExtent } from '../device.js';

/** Looks like the device below and passes every request on; a filter overrides what it is there for. */
export abstract class PassThrough implements FilterDevice {
  constructor(readonly below: BlockNode) {}

  get name(): string {
    return this.below.name;
  }

  get lengthBytes(): number {
    return this.below.lengthBytes;
  }

  get alignmentBytes(): number {
    return this.below.alignmentBytes;
  }

  get readOnly(): boolean {
    return this.below.readOnly;
  }

  read(offsetBytes: number, into: Uint8Array): Promise<void> {
    return this.below.read(offsetBytes, into);
  }

  write(offsetBytes: number, from: Uint8Array): Promise<void> {
    return this.below.write(offsetBytes, from);
  }

  writeZeroes(offsetBytes: number, lengthBytes: number, options?: { keepAllocated?: boolean }): Promise<void> {
    return this.below.writeZeroes(offsetBytes, lengthBytes, options);
  }

  discard(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.below.discard(offsetBytes, lengthBytes);
  }

  flush(): Promise<void> {
    return this.below.flush();
  }

  blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]> {
    return this.below.blockStatus(offsetBytes, lengthBytes);
  }

  prefetch(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.below.prefetch(offsetBytes, lengthBytes);
  }

  close(): Promise<void> {
    return this.below.close();
  }
}
