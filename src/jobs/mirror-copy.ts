// SPDX-License-Identifier: MIT
// Copies ranges of a mirror's source to its target: zeros as zeros, the rest through buffers.

import { BugError } from '../base/errors.js';
import type { BlockDevice, BlockExtent } from '../block/device.js';
import type { MirrorBuffers } from './mirror-buffers.js';

/** On which side a copy failed. */
export interface CopyFailure {
  readonly where: 'source' | 'target';
  readonly error: unknown;
}

/** The beginning of a range that is copied in one way. */
export interface CopyRun {
  readonly state: 'data' | 'zero';
  readonly lengthBytes: number;
}

/** Its methods resolve to what went wrong, if anything; the target's range then holds unknown content. */
export class MirrorCopy {
  constructor(
    private readonly source: BlockDevice,
    private readonly target: BlockDevice,
    private readonly buffers: MirrorBuffers,
  ) {}

  /** Whatever the source holds in the range, piece after piece. */
  async whole(offsetBytes: number, lengthBytes: number): Promise<CopyFailure | undefined> {
    const end = offsetBytes + lengthBytes;
    for (let at = offsetBytes; at < end; ) {
      const status = await this.status(at, end - at);
      if ('error' in status) return status;
      for (const extent of status.extents) {
        const failure = await this.run(extent.state, at, extent.lengthBytes);
        if (failure) return failure;
        at += extent.lengthBytes;
      }
    }
    return undefined;
  }

  async status(
    offsetBytes: number,
    lengthBytes: number,
  ): Promise<CopyFailure | { readonly extents: readonly BlockExtent[] }> {
    try {
      const extents = await this.source.blockStatus(offsetBytes, lengthBytes);
      return { extents: checkExtents(this.source, offsetBytes, lengthBytes, extents) };
    } catch (error) {
      return { where: 'source', error };
    }
  }

  async run(state: 'data' | 'zero', offsetBytes: number, lengthBytes: number): Promise<CopyFailure | undefined> {
    if (state === 'zero') return await onTarget(() => this.target.writeZeroes(offsetBytes, lengthBytes));
    const buffer = await this.buffers.take();
    try {
      return await this.#data(offsetBytes, lengthBytes, buffer);
    } finally {
      this.buffers.give(buffer);
    }
  }

  async #data(offsetBytes: number, lengthBytes: number, buffer: Uint8Array): Promise<CopyFailure | undefined> {
    for (let done = 0; done < lengthBytes; ) {
      const piece = buffer.subarray(0, Math.min(buffer.byteLength, lengthBytes - done));
      const at = offsetBytes + done;
      try {
        await this.source.read(at, piece);
      } catch (error) {
        return { where: 'source', error };
      }
      const failure = await onTarget(() => this.target.write(at, piece));
      if (failure) return failure;
      done += piece.byteLength;
    }
    return undefined;
  }
}

/** Runs something of the target's; a failure is the target's. */
export async function onTarget(action: () => Promise<void>): Promise<CopyFailure | undefined> {
  try {
    await action();
    return undefined;
  } catch (error) {
    return { where: 'target', error };
  }
}

/**
 * How the beginning of a range is to be copied, by the extents that begin there: as zeros, where whole units are zero, or
 * as data, up to the next whole zero unit. Its length is a multiple of `unitBytes`, or reaches the end of the range.
 */
export function firstRun(
  range: { readonly offsetBytes: number; readonly lengthBytes: number },
  extents: readonly BlockExtent[],
  unitBytes: number,
  mostDataBytes: number,
): CopyRun {
  const wholeUnits = (lengthBytes: number) => lengthBytes - (lengthBytes % unitBytes);
  let zeroEnd = 0;
  let dataEnd = 0;
  /** Where zero extents that touch each other began. */
  let zeroFrom = 0;
  for (const extent of extents) {
    const from = extent.offsetBytes - range.offsetBytes;
    const to = from + extent.lengthBytes;
    if (extent.state === 'data') {
      dataEnd = to;
      zeroFrom = to;
      if (dataEnd >= mostDataBytes) break;
    } else if (dataEnd === 0) {
      zeroEnd = to;
    } else if (wholeUnits(to) - roundUp(zeroFrom, unitBytes) >= unitBytes || to === range.lengthBytes) {
      break;
    }
  }
  const zeroBytes = zeroEnd === range.lengthBytes ? zeroEnd : wholeUnits(zeroEnd);
  if (zeroBytes > 0) return { state: 'zero', lengthBytes: zeroBytes };
  const mostBytes = Math.max(unitBytes, wholeUnits(mostDataBytes));
  const upTo = roundUp(Math.max(dataEnd, zeroEnd), unitBytes);
  return { state: 'data', lengthBytes: Math.min(range.lengthBytes, mostBytes, upTo) };
}

function roundUp(bytes: number, unitBytes: number): number {
  return Math.ceil(bytes / unitBytes) * unitBytes;
}

/** Throws BugError unless they are what `blockStatus` promises. */
function checkExtents(
  device: BlockDevice,
  offsetBytes: number,
  lengthBytes: number,
  extents: readonly BlockExtent[],
): readonly BlockExtent[] {
  let at = offsetBytes;
  for (const extent of extents) {
    if (extent.offsetBytes !== at || !(extent.lengthBytes > 0)) break;
    at += extent.lengthBytes;
  }
  const last = extents.at(-1);
  const isWhole = last !== undefined && at === last.offsetBytes + last.lengthBytes && at <= offsetBytes + lengthBytes;
  if (isWhole) return extents;
  throw new BugError(`${device.name}: a block status out of place at ${offsetBytes}: ${JSON.stringify(extents[0])}`);
}
