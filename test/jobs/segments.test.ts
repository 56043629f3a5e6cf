// SPDX-License-Identifier: MIT

import { describe, expect, it } from 'vitest';
import type { BlockExtent } from '#vmar/src/block/device.js';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import { type Segment, segments } from '#vmar/src/jobs/segments.js';
import { seededRandom } from '../base/random.js';

const CLUSTER = 64;
const SLOT = 256;

/** A device that is its block status. */
class StatusOnly extends MemoryDevice {
  constructor(private readonly extents: readonly BlockExtent[]) {
    super(extents.reduce((sum, extent) => sum + extent.lengthBytes, 0));
  }

  override async blockStatus(offsetBytes: number): Promise<BlockExtent[]> {
    return this.extents.filter((extent) => extent.offsetBytes >= offsetBytes).slice(0, 3);
  }
}

function extentsOf(pattern: readonly (readonly [BlockExtent['state'], number])[]): BlockExtent[] {
  let offsetBytes = 0;
  return pattern.map(([state, lengthBytes]) => {
    offsetBytes += lengthBytes;
    return { offsetBytes: offsetBytes - lengthBytes, lengthBytes, state };
  });
}

async function cut(...pattern: readonly (readonly [BlockExtent['state'], number])[]): Promise<string> {
  const found = await all(new StatusOnly(extentsOf(pattern)));
  return found.map(({ kind, offsetBytes, lengthBytes }) => `${kind} ${offsetBytes}+${lengthBytes}`).join(', ');
}

async function all(device: MemoryDevice, leastHoleBytes = CLUSTER): Promise<Segment[]> {
  const found: Segment[] = [];
  for await (const segment of segments(device, CLUSTER, SLOT, leastHoleBytes)) found.push(segment);
  return found;
}

describe('segments', () => {
  it('cut data at slots, holes not at all', async () => {
    expect(await cut()).toBe('');
    expect(await cut(['zero', 5000])).toBe('zero 0+5000');
    expect(await cut(['data', 600])).toBe('data 0+256, data 256+256, data 512+88');
    expect(await cut(['zero', 128], ['data', 512], ['zero', 1])).toBe(
      'zero 0+128, data 128+128, data 256+256, data 512+128, zero 640+1',
    );
  });

  it('read a short hole with the data around it', async () => {
    const device = new StatusOnly(
      extentsOf([
        ['data', 64],
        ['zero', 64],
        ['data', 64],
        ['zero', 128],
        ['data', 64],
      ]),
    );
    const found = (await all(device, 128)).map(
      ({ kind, offsetBytes, lengthBytes }) => `${kind} ${offsetBytes}+${lengthBytes}`,
    );
    expect(found.join(', ')).toBe('data 0+192, zero 192+128, data 320+64');
  });

  it('join neighbours of one kind', async () => {
    expect(await cut(['zero', 100], ['zero', 1000], ['zero', 7])).toBe('zero 0+1107');
    expect(await cut(['data', 30], ['data', 100], ['data', 200])).toBe('data 0+256, data 256+74');
  });

  it('read a cluster that is partly data', async () => {
    expect(await cut(['data', 1], ['zero', 62], ['data', 1])).toBe('data 0+64');
    expect(await cut(['zero', 63], ['data', 1], ['zero', 64])).toBe('data 0+64, zero 64+64');
    expect(await cut(['data', 65], ['zero', 100], ['data', 10])).toBe('data 0+175');
    expect(await cut(['zero', 127], ['data', 2], ['zero', 127])).toBe('zero 0+64, data 64+128, zero 192+64');
    expect(await cut(['data', 64], ['zero', 63], ['data', 1], ['zero', 3])).toBe('data 0+128, zero 128+3');
  });

  it.each(Array.from({ length: 40 }, (_, seed) => seed))(
    'are as a walk over every cluster finds them, seed %i',
    async (seed) => {
      const random = seededRandom(seed);
      const extents = extentsOf(
        Array.from(
          { length: random.integer(1, 60) },
          () => [random.oneIn(2) ? 'data' : 'zero', random.integer(1, random.oneIn(4) ? 900 : 70)] as const,
        ),
      );
      const device = new StatusOnly(extents);
      expect(await all(device)).toEqual(naive(extents, device.lengthBytes));
    },
  );

  it('refuse a status that is out of place', async () => {
    const bug = { code: 'bug' };
    await expect(all(new StatusOnly([{ offsetBytes: 1, lengthBytes: 5, state: 'data' }]))).rejects.toMatchObject(bug);
    await expect(
      all(
        new StatusOnly([
          { offsetBytes: 0, lengthBytes: 0, state: 'data' },
          { offsetBytes: 5, lengthBytes: 5, state: 'data' },
        ]),
      ),
    ).rejects.toMatchObject(bug);
    const device = new MemoryDevice(10);
    device.blockStatus = async () => [];
    await expect(all(device)).rejects.toMatchObject(bug);
    device.blockStatus = async () => [{ offsetBytes: 0, lengthBytes: 11, state: 'data' }];
    await expect(all(device)).rejects.toMatchObject(bug);
  });
});

/** The same, cluster by cluster. */
function naive(extents: readonly BlockExtent[], lengthBytes: number): Segment[] {
  const found: { kind: Segment['kind']; offsetBytes: number; lengthBytes: number }[] = [];
  for (let at = 0; at < lengthBytes; at += CLUSTER) {
    const end = Math.min(at + CLUSTER, lengthBytes);
    const isData = extents.some(
      (extent) => extent.state === 'data' && extent.offsetBytes < end && extent.offsetBytes + extent.lengthBytes > at,
    );
    const kind = isData ? 'data' : 'zero';
    const last = found.at(-1);
    if (last?.kind === kind && (kind === 'zero' || at % SLOT !== 0)) last.lengthBytes += end - at;
    else found.push({ kind, offsetBytes: at, lengthBytes: end - at });
  }
  return found;
}
