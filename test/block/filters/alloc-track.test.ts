// SPDX-License-Identifier: MIT

import { BlockNode } from '#vmar/src/block/block-node.js';
import { AllocTrack } from '#vmar/src/block/filters/alloc-track.js';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import { deviceContract } from '../device-contract.js';

/** A target full of old content that must never show. */
async function stale(lengthBytes: number): Promise<BlockNode> {
  const target = new MemoryDevice(lengthBytes, { name: 'target' });
  await target.write(0, Buffer.alloc(lengthBytes, 0x55));
  return new BlockNode(target);
}

deviceContract('AllocTrack over an empty backing', async (lengthBytes) => {
  const backing = new MemoryDevice(lengthBytes);
  return new AllocTrack(await stale(lengthBytes), { backing, targetIsZero: false });
});

deviceContract('AllocTrack with no backing', async (lengthBytes) => {
  return new AllocTrack(await stale(lengthBytes), { backing: undefined, targetIsZero: false, granularityBytes: 512 });
});

deviceContract('AllocTrack that copies on read', async (lengthBytes) => {
  const backing = new MemoryDevice(lengthBytes);
  const below = new BlockNode(new MemoryDevice(lengthBytes));
  return new AllocTrack(below, { backing, targetIsZero: true, copyOnRead: true });
});
