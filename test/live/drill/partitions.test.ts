// SPDX-License-Identifier: MIT
// Partition tables: what is read from good ones, and that bad ones are told and lead nowhere.

import { describe, expect, it } from 'vitest';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import { ConsoleText } from '#vmar/src/live/drill/console-text.js';
import { contentOf } from '#vmar/src/live/drill/file-system.js';
import { readPartitions } from '#vmar/src/live/drill/partitions.js';
import { gptSectors, MIB, mbrSectors } from './partitioned.js';

async function disk(mib: number, sectors: readonly { at: number; bytes: Uint8Array }[]): Promise<MemoryDevice> {
  const device = new MemoryDevice(mib * MIB);
  for (const { at, bytes } of sectors) await device.write(at, bytes);
  return device;
}

const PRIMARY = { atMib: 1, lengthMib: 3 };
const LOGICAL = { atMib: 6, lengthMib: 4 };

describe('partition tables', () => {
  it('give primary and logical partitions of an MBR', async () => {
    const { kind, partitions, problem } = await readPartitions(await disk(16, mbrSectors(PRIMARY, LOGICAL)));
    expect({ kind, problem }).toEqual({ kind: 'mbr', problem: undefined });
    expect(partitions).toEqual([
      { number: 1, offsetBytes: MIB, lengthBytes: 3 * MIB },
      { number: 5, offsetBytes: 6 * MIB, lengthBytes: 4 * MIB },
    ]);
  });

  it('give the partitions of a GPT', async () => {
    const { kind, partitions, problem } = await readPartitions(await disk(16, gptSectors(16, [PRIMARY, LOGICAL])));
    expect({ kind, problem }).toEqual({ kind: 'gpt', problem: undefined });
    expect(partitions.map(({ number, offsetBytes }) => [number, offsetBytes])).toEqual([
      [1, MIB],
      [2, 6 * MIB],
    ]);
  });

  it('that reach past the end of the disk are told', async () => {
    expect(
      await readPartitions(await disk(8, mbrSectors({ atMib: 1, lengthMib: 9 }, { atMib: 3, lengthMib: 1 }))),
    ).toMatchObject({
      problem: 'partition 1 does not lie within the disk',
      partitions: [{ number: 5 }],
    });
    expect((await readPartitions(await disk(8, gptSectors(8, [PRIMARY, LOGICAL])))).problem).toContain('partition 2');
  });

  it('with a chain that leads in a circle or nowhere end', async () => {
    const sectors = mbrSectors(PRIMARY, LOGICAL);
    const link = sectors[1]!.bytes;
    link[446 + 16 + 4] = 0x05;
    link.writeUInt32LE(0, 446 + 16 + 8);
    link.writeUInt32LE(1, 446 + 16 + 12);
    expect((await readPartitions(await disk(16, sectors))).problem).toContain('does not end');
    link.writeUInt32LE(0xfffffff0, 446 + 16 + 8);
    expect((await readPartitions(await disk(16, sectors))).problem).toContain('past the end');
  });

  it.each([
    ['header', 512 + 40, 'checksum of its header'],
    ['entries', 1024 + 40, 'checksum of its entries'],
  ])('with a flipped bit in the %s are told', async (_what, at, problem) => {
    const device = await disk(16, gptSectors(16, [PRIMARY]));
    const byte = Buffer.alloc(1);
    await device.read(at, byte);
    await device.write(at, Uint8Array.of(byte[0]! ^ 1));
    expect((await readPartitions(device)).problem).toContain(problem);
  });

  it('of which both copies are gone are told; a disk without any has none', async () => {
    const [protective] = gptSectors(16, [PRIMARY]);
    expect((await readPartitions(await disk(16, [protective!]))).problem).toContain('both');
    expect(await readPartitions(await disk(16, []))).toEqual({ kind: 'none', partitions: [] });
    expect(await readPartitions(new MemoryDevice(100))).toEqual({ kind: 'none', partitions: [] });
  });
});

describe('what lies in a partition', () => {
  it('is told by its marks', async () => {
    const told = async (at: number, mark: string) =>
      (await contentOf(await disk(1, [{ at, bytes: Buffer.from(mark, 'latin1') }]))).name;
    expect(await told(0, 'XFSB')).toBe('xfs');
    expect(await told(0x218, 'LVM2 001')).toBe('LVM2 member');
    expect(await told(4086, 'SWAPSPACE2')).toBe('swap');
    expect(await told(0, 'LUKS\xba\xbe')).toBe('LUKS');
    expect(await told(7, 'something')).toBe('unknown');
    expect((await contentOf(new MemoryDevice(MIB))).kind).toBe('empty');
  });
});

describe('a console', () => {
  it('is searched across pieces, without what moves its cursor, and in a line that has no end', () => {
    const text = new ConsoleText('debian login:');
    text.add('\u001b[2J\u001b[1;1HBooting\r\n\u001b[0;32m[  OK  ]\u001b[0m Started.\r\n\r\ndeb');
    expect(text.found).toBeUndefined();
    text.add('ian \u001b[1mlogin: ');
    expect(text.found).toBe('debian login:');
    expect(text.lastLines(5)).toEqual(['Booting', '[  OK  ] Started.', 'debian login:']);
    expect(text.lastLines(1)).toEqual(['debian login:']);
  });
});
