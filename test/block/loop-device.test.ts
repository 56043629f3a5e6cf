// SPDX-License-Identifier: MIT
// FileDevice over a real block device: a loop device, which takes root.
import { spawnSync } from 'node:child_process';
import { closeSync, constants, openSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type FileDevice, openFileDevice } from '#vmar/src/block/file-device.js';
import { scratchDirectory } from '../base/scratch.js';
import { deviceContract } from './device-contract.js';

const directory = scratchDirectory();
const MIB = 1 << 20;
const attached: string[] = [];
let files = 0;

interface Loop {
  readonly device: string;
  readonly backing: string;
}

function attach(lengthBytes: number): Loop | undefined {
  const backing = join(directory, `backing-${files++}`);
  writeFileSync(backing, '');
  truncateSync(backing, lengthBytes);
  const losetup = spawnSync('losetup', ['--find', '--show', backing], { encoding: 'utf8' });
  if (losetup.status !== 0) return undefined;
  const device = losetup.stdout.trim();
  attached.push(device);
  return { device, backing };
}

/** A loop device that goes away when it is closed. */
async function openLoop(lengthBytes: number): Promise<FileDevice> {
  const loop = attach(lengthBytes)!;
  const device = await openFileDevice(loop.device, { readOnly: false });
  detach(loop.device);
  return device;
}

function detach(device: string): void {
  attached.splice(attached.indexOf(device), 1);
  spawnSync('losetup', ['-d', device]);
}

afterAll(() => {
  for (const device of [...attached]) detach(device);
});

const probe = attach(MIB);
if (!probe) console.warn('\n!!! losetup does not work here (it takes root): NOT TESTED: block devices\n');

describe.skipIf(!probe)('a FileDevice over a block device', () => {
  deviceContract('', openLoop, { lengthUnit: 512 });

  it('knows its size and alignment', async () => {
    const device = await openLoop(5 * MIB + 512);
    expect(device.isBlockDevice).toBe(true);
    expect(device.lengthBytes).toBe(5 * MIB + 512);
    expect(await device.lengthNow()).toBe(5 * MIB + 512);
    expect(device.alignmentBytes).toBe(4096);
    await device.close();
  });

  it('is all data', async () => {
    const device = await openLoop(MIB);
    expect(await device.blockStatus(4096, 8192)).toEqual([{ offsetBytes: 4096, lengthBytes: 8192, state: 'data' }]);
    await device.close();
  });

  it('names the offset that cannot be read', async () => {
    const loop = attach(4 * MIB)!;
    truncateSync(loop.backing, 2 * MIB);
    const device = await openFileDevice(loop.device, { readOnly: true });
    await device.read(MIB, Buffer.alloc(MIB));
    await expect(device.read(2 * MIB, Buffer.alloc(MIB))).rejects.toMatchObject({
      code: 'read-failed',
      exitStatus: 1,
      object: loop.device,
      offsetBytes: 2 * MIB,
      message: expect.stringContaining('EIO'),
    });
    await device.close();
    detach(loop.device);
  });

  it('is not opened for writing while somebody has it for himself, as a mount does', async () => {
    const loop = attach(MIB)!;
    const holder = openSync(loop.device, constants.O_RDONLY | constants.O_EXCL);
    const busy = { code: 'device-in-use', exitStatus: 5, object: loop.device };
    await expect(openFileDevice(loop.device, { readOnly: false })).rejects.toMatchObject(busy);
    await (await openFileDevice(loop.device, { readOnly: true })).close();
    await (await openFileDevice(loop.device, { readOnly: false, forceShare: true })).close();
    closeSync(holder);
    detach(loop.device);
  });
});
