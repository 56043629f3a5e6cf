// SPDX-License-Identifier: MIT
// Clusters of one disk into a dump sink.

import { type DumpSink, SAME_AS_PARENT, ZERO } from '../plugin-api.js';
import type { ClusterTarget, DeviceWithDescriptor } from './backup-target.js';

/**
 * A sink that several jobs share. After the first call that it rejected nothing more is asked of it: every further call
 * fails with that error.
 */
export class SharedSink {
  #broken: { readonly error: unknown } | undefined;

  constructor(readonly sink: DumpSink) {}

  /** @throws what broke it */
  check(): void {
    if (this.#broken) throw this.#broken.error;
  }

  /** No call is made from now on. */
  break(error: unknown): void {
    this.#broken ??= { error };
  }

  async call<T>(step: (sink: DumpSink) => Promise<T>): Promise<T> {
    this.check();
    try {
      return await step(this.sink);
    } catch (error) {
      this.break(error);
      throw error;
    }
  }
}

export class SinkTarget implements ClusterTarget {
  readonly clusterSizeBytes: number;
  readonly pieceBytes: number;
  readonly zeroPieceBytes = Number.MAX_SAFE_INTEGER;
  readonly failsForGood = true;
  readonly writeFrom?: (offsetBytes: number, lengthBytes: number, source: DeviceWithDescriptor) => Promise<void>;

  constructor(
    private readonly shared: SharedSink,
    private readonly disk: number,
  ) {
    const { sink } = shared;
    this.clusterSizeBytes = sink.clusterSizeBytes;
    this.pieceBytes = sink.slotBytes;
    if (sink.dumpFrom) this.writeFrom = (offset, length, source) => this.#dumpFrom(offset, length, source);
  }

  get holdsUnchanged(): boolean {
    return this.shared.sink.hasParent(this.disk);
  }

  lease(): Promise<Uint8Array> {
    return this.shared.call((sink) => sink.lease());
  }

  release(slot: Uint8Array): void {
    this.shared.sink.release(slot);
  }

  async write(offsetBytes: number, slot: Uint8Array, lengthBytes: number): Promise<void> {
    try {
      this.shared.check();
    } catch (error) {
      this.release(slot);
      throw error;
    }
    const bytes = lengthBytes === slot.byteLength ? slot : slot.subarray(0, lengthBytes);
    await this.shared.call((sink) => sink.dump(this.disk, this.#cluster(offsetBytes), bytes));
  }

  async writeZeroes(offsetBytes: number, lengthBytes: number): Promise<void> {
    await this.#dumpRange(offsetBytes, lengthBytes, ZERO);
  }

  async keep(offsetBytes: number, lengthBytes: number): Promise<void> {
    await this.#dumpRange(offsetBytes, lengthBytes, SAME_AS_PARENT);
  }

  /** What makes it durable is the end of the whole backup. */
  async flush(): Promise<void> {}

  async #dumpRange(offsetBytes: number, lengthBytes: number, content: typeof ZERO | typeof SAME_AS_PARENT) {
    const count = Math.ceil(lengthBytes / this.clusterSizeBytes);
    await this.shared.call((sink) => sink.dumpRange(this.disk, this.#cluster(offsetBytes), count, content));
  }

  async #dumpFrom(offsetBytes: number, lengthBytes: number, source: DeviceWithDescriptor): Promise<void> {
    await this.shared.call((sink) => sink.dumpFrom!(this.disk, this.#cluster(offsetBytes), lengthBytes, source));
  }

  #cluster(offsetBytes: number): number {
    return offsetBytes / this.clusterSizeBytes;
  }
}
