// SPDX-License-Identifier: MIT

import { describe, expect, it } from 'vitest';
import { FailedError } from '#vmar/src/base/errors.js';
import { BlockNode } from '#vmar/src/block/block-node.js';
import { DirtyBitmap } from '#vmar/src/block/dirty-bitmap.js';
import { type Change, DirtyTracking, type DirtyTrackingOptions } from '#vmar/src/block/filters/dirty-tracking.js';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import { deviceContract } from './device-contract.js';

const LENGTH = 100_000;

async function tracked(options: Partial<DirtyTrackingOptions> = {}) {
  const device = new MemoryDevice(LENGTH);
  const node = new BlockNode(device);
  const bitmap = new DirtyBitmap(LENGTH, 4096);
  await node.insertFilter((below) => new DirtyTracking(below, { bitmap, ...options }));
  return { device, node, bitmap };
}

deviceContract('a dirty-tracking filter', async (lengthBytes) => {
  const node = new BlockNode(new MemoryDevice(lengthBytes));
  await node.insertFilter((below) => new DirtyTracking(below, { bitmap: new DirtyBitmap(lengthBytes, 4096) }));
  return node;
});

describe('a dirty-tracking filter', () => {
  it('marks what is written, zeroed and discarded, and nothing else', async () => {
    let told = 0;
    const { node, bitmap } = await tracked({ onDirty: () => told++ });
    await node.read(0, Buffer.alloc(LENGTH));
    await node.flush();
    await node.write(0, new Uint8Array(0));
    expect(bitmap.dirtyBytes).toBe(0);
    await node.write(4095, Buffer.alloc(2));
    await node.writeZeroes(40_960, 4096);
    await node.discard(LENGTH - 1, 1);
    expect(told).toBe(3);
    expect(bitmap.nextDirtyRange(0)).toEqual({ offsetBytes: 0, lengthBytes: 8192 });
    expect(bitmap.nextDirtyRange(8192)).toEqual({ offsetBytes: 40_960, lengthBytes: 4096 });
    expect(bitmap.nextDirtyRange(45_056)).toEqual({ offsetBytes: 98_304, lengthBytes: LENGTH - 98_304 });
  });

  it('marks a change when it has ended, and not before', async () => {
    const { device, node, bitmap } = await tracked();
    let goOn = () => {};
    const held = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    device.write = () => held;
    const write = node.write(0, Buffer.alloc(10));
    expect(bitmap.dirtyBytes).toBe(0);
    goOn();
    await write;
    expect(bitmap.dirtyBytes).toBe(4096);
  });

  it('marks a change that failed: its range holds unknown content', async () => {
    const { device, node, bitmap } = await tracked();
    device.write = () => Promise.reject(new FailedError('io-error', 'EIO'));
    await expect(node.write(0, Buffer.alloc(10))).rejects.toMatchObject({ code: 'io-error' });
    expect(bitmap.get(0)).toBe(true);
  });

  it('leaves the marking to whoever stands around a change', async () => {
    const changes: Change[] = [];
    const { node, bitmap } = await tracked({
      around: (change, apply) => {
        changes.push(change);
        return change.kind === 'discard' ? undefined : apply();
      },
    });
    await node.write(10, Buffer.from('abc'));
    await node.writeZeroes(8192, 10);
    expect(bitmap.dirtyBytes).toBe(0);
    await node.discard(8192, 10);
    expect(bitmap.dirtyBytes).toBe(4096);
    expect(changes.map(({ kind, offsetBytes, lengthBytes }) => [kind, offsetBytes, lengthBytes])).toEqual([
      ['write', 10, 3],
      ['zero', 8192, 10],
      ['discard', 8192, 10],
    ]);
    const read = Buffer.alloc(3);
    await node.read(10, read);
    expect(read.toString()).toBe('abc');
  });
});
