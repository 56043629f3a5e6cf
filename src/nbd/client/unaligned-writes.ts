// SPDX-License-Identifier: MIT
// Writes that do not keep to the server's blocks: a block that is written in part is read, changed and written whole.
//
// Guarantee: no two operations on one block run at once, so that neither undoes the other.

import type { BlockDevice } from '../../block/device.js';

interface Range {
  readonly from: number;
  readonly to: number;
  readonly ended: Promise<void>;
}

type WriteAligned = (offsetBytes: number, bytes: Uint8Array) => Promise<void>;

export class UnalignedWrites {
  readonly #device: Pick<BlockDevice, 'read' | 'lengthBytes'>;
  readonly #unit: number;
  /** In the order in which they came. */
  readonly #running = new Set<Range>();

  constructor(device: Pick<BlockDevice, 'read' | 'lengthBytes'>, blockBytes: number) {
    this.#device = device;
    this.#unit = blockBytes;
  }

  async write(offsetBytes: number, bytes: Uint8Array, write: WriteAligned): Promise<void> {
    await this.alone(offsetBytes, bytes.byteLength, async () => {
      const end = offsetBytes + bytes.byteLength;
      const [from, to] = this.#blocks(offsetBytes, bytes.byteLength);
      if (from === offsetBytes && to === end) {
        await write(offsetBytes, bytes);
        return;
      }
      // Large ones are cut, so that only their ends are copied.
      const middle = Math.min(to, from + this.#unit);
      if (to - from > 2 * this.#unit) {
        const last = end - (end % this.#unit);
        const start = offsetBytes === from ? from : middle;
        const stop = end === to ? to : last;
        if (offsetBytes < start)
          await this.#change(from, middle, offsetBytes, bytes.subarray(0, start - offsetBytes), write);
        await write(start, bytes.subarray(start - offsetBytes, stop - offsetBytes));
        if (stop < end) await this.#change(last, to, stop, bytes.subarray(stop - offsetBytes), write);
        return;
      }
      await this.#change(from, to, offsetBytes, bytes, write);
    });
  }

  async #change(from: number, to: number, at: number, bytes: Uint8Array, write: WriteAligned): Promise<void> {
    const blocks = new Uint8Array(to - from);
    await this.#device.read(from, blocks);
    blocks.set(bytes, at - from);
    await write(from, blocks);
  }

  /** Runs the action when nothing else runs on its blocks; first come, first served. */
  async alone(offsetBytes: number, lengthBytes: number, action: () => Promise<void>): Promise<void> {
    const [from, to] = this.#blocks(offsetBytes, lengthBytes);
    const earlier = [...this.#running].filter((other) => other.from < to && from < other.to);
    let end = (): void => {};
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    const range = { from, to, ended };
    this.#running.add(range);
    try {
      for (const other of earlier) await other.ended;
      await action();
    } finally {
      this.#running.delete(range);
      end();
    }
  }

  /** The whole blocks that a range touches; the device may end inside the last. */
  #blocks(offsetBytes: number, lengthBytes: number): readonly [from: number, to: number] {
    const end = Math.ceil((offsetBytes + lengthBytes) / this.#unit) * this.#unit;
    return [offsetBytes - (offsetBytes % this.#unit), Math.min(this.#device.lengthBytes, end)];
  }
}
