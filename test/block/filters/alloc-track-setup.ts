// SPDX-License-Identifier: MIT
// A small live restore to try things on: target, backing, and faults for both.

import { BlockNode } from '#vmar/src/block/block-node.js';
import { AllocTrack, type AllocTrackOptions } from '#vmar/src/block/filters/alloc-track.js';
import { FaultFilter } from '#vmar/src/block/filters/fault.js';
import { SlowDevice, settle } from '../slow-device.js';

export const UNIT = 4096;
export const STALE = 0x55;

export interface Setup {
  readonly filter: AllocTrack;
  readonly target: SlowDevice;
  readonly backing: SlowDevice;
  readonly targetFaults: FaultFilter;
  readonly backingFaults: FaultFilter;
}

/** Granule n of the backing is full of n + 1, but every fourth is zero; the target is full of old content, or zero. */
export function setUp(granules: number, options: Partial<AllocTrackOptions> = {}): Setup {
  const length = granules * UNIT;
  const targetIsZero = options.targetIsZero ?? false;
  const target = new SlowDevice(Buffer.alloc(length, targetIsZero ? 0 : STALE));
  const backing = new SlowDevice(Buffer.alloc(length));
  for (let at = 0; at < granules; at++) if (at % 4 !== 3) backing.content.fill(at + 1, at * UNIT, (at + 1) * UNIT);
  const targetFaults = new FaultFilter(new BlockNode(target));
  const backingFaults = new FaultFilter(new BlockNode(backing));
  const filter = new AllocTrack(new BlockNode(targetFaults), { backing: backingFaults, targetIsZero, ...options });
  return { filter, target, backing, targetFaults, backingFaults };
}

export async function read(filter: AllocTrack, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length, 0xee);
  await filter.read(offset, bytes);
  return bytes;
}

export const granule = (value: number) => Buffer.alloc(UNIT, value);

/** Opens when told. */
export function makeGate(): { opened: Promise<void>; open: () => void } {
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

export async function isPending(promise: Promise<unknown>): Promise<boolean> {
  const wait = settle()
    .then(settle)
    .then(() => 'pending');
  return (await Promise.race([promise.catch(() => undefined), wait])) === 'pending';
}
