// SPDX-License-Identifier: MIT
// Metadata contexts as QEMU gives them: holes, backing files, dirty bitmaps.

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openNbdDevice } from '#vmar/src/nbd/client/nbd-client.js';
import { haveTool, scratchDirectory } from '../../base/scratch.js';
import { qemuNbd, serve } from './servers.js';

const directory = scratchDirectory();
let count = 0;
const path = (name: string) => join(directory, name);
const socketPath = () => path(`s${count++}`);
const MIB = 1 << 20;

function run(command: string, ...words: string[]): void {
  const { status, stderr } = spawnSync(command, words, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${words.join(' ')}: ${stderr}`);
}

const haveImages = haveTool('qemu-img', 'metadata contexts') && haveTool('qemu-io', 'metadata contexts');

describe.skipIf(!(haveImages && haveTool('qemu-nbd', 'metadata contexts')))('qemu-nbd', () => {
  it('tells what is zero, and what shows through from a backing file', async () => {
    run('qemu-img', 'create', '-q', '-f', 'qcow2', path('base.qcow2'), '8M');
    run('qemu-io', '-f', 'qcow2', '-c', 'write -P 1 0 2M', path('base.qcow2'));
    run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', path('top.qcow2'));
    run('qemu-io', '-f', 'qcow2', '-c', 'write -P 2 1M 2M', '-c', 'write -z 4M 1M', path('top.qcow2'));
    const words = ['--read-only', '--format=qcow2', '--allocation-depth', '--shared=4', path('top.qcow2')];
    const { uri } = await qemuNbd(socketPath(), ...words);
    const device = await openNbdDevice(uri, { readOnly: true });
    expect(await device.blockStatus(0, 8 * MIB)).toEqual([
      { offsetBytes: 0, lengthBytes: MIB, state: 'data', backed: true },
      { offsetBytes: MIB, lengthBytes: 2 * MIB, state: 'data', backed: false },
      { offsetBytes: 3 * MIB, lengthBytes: MIB, state: 'zero', backed: true },
      { offsetBytes: 4 * MIB, lengthBytes: MIB, state: 'zero', backed: false },
      { offsetBytes: 5 * MIB, lengthBytes: 3 * MIB, state: 'zero', backed: true },
    ]);
    expect(await device.blockStatus(MIB + 1, 10)).toEqual([
      { offsetBytes: MIB + 1, lengthBytes: 10, state: 'data', backed: false },
    ]);
    await device.close();
  });

  it('says nothing of backing files unless it is asked to export them', async () => {
    const { uri } = await qemuNbd(socketPath(), '--read-only', '--format=qcow2', path('top.qcow2'));
    const device = await openNbdDevice(uri, { readOnly: true });
    expect((await device.blockStatus(0, 8 * MIB))[0]).toEqual({ offsetBytes: 0, lengthBytes: 3 * MIB, state: 'data' });
    await device.close();
  });

  it('tells of a disk of 64 TiB in a moment', async () => {
    run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'cluster_size=2M', path('huge.qcow2'), '64T');
    run('qemu-io', '-f', 'qcow2', '-c', 'write -P 1 33T 2M', path('huge.qcow2'));
    const { uri } = await qemuNbd(socketPath(), '--read-only', '--format=qcow2', path('huge.qcow2'));
    const device = await openNbdDevice(uri, { readOnly: true });
    const data: unknown[] = [];
    for (let at = 0; at < device.lengthBytes; ) {
      for (const extent of await device.blockStatus(at, device.lengthBytes - at)) {
        at += extent.lengthBytes;
        if (extent.state === 'data') data.push(extent);
      }
    }
    expect(data).toEqual([{ offsetBytes: 33 * 2 ** 40, lengthBytes: 2 * MIB, state: 'data' }]);
    await device.close();
  });
});

describe.skipIf(!(haveImages && haveTool('qemu-storage-daemon', 'dirty bitmaps')))('qemu-storage-daemon', () => {
  it('tells what is dirty', async () => {
    const image = path('dirty.qcow2');
    run('qemu-img', 'create', '-q', '-f', 'qcow2', image, '8M');
    run('qemu-img', 'bitmap', '--add', '-g', '65536', image, 'night');
    run('qemu-io', '-f', 'qcow2', '-c', 'write 1M 100k', '-c', 'write 7M 1M', image);
    run('qemu-img', 'bitmap', '--disable', image, 'night');
    const socket = socketPath();
    const node = { driver: 'qcow2', 'node-name': 'd', file: { driver: 'file', filename: image } };
    const server = await serve(socket, 'qemu-storage-daemon', [
      ...['--blockdev', JSON.stringify(node), '--nbd-server', `addr.type=unix,addr.path=${socket},max-connections=8`],
      ...['--export', JSON.stringify({ type: 'nbd', id: 'e', 'node-name': 'd', name: 'd', bitmaps: ['night'] })],
    ]);
    const uri = server.uri.replace(':///', ':///d');
    const device = await openNbdDevice(uri, { readOnly: true, bitmap: 'night' });
    expect(await device.dirtyStatus(0, 8 * MIB)).toEqual([
      { offsetBytes: 0, lengthBytes: MIB, dirty: false },
      { offsetBytes: MIB, lengthBytes: 2 * 65536, dirty: true },
      { offsetBytes: MIB + 2 * 65536, lengthBytes: 6 * MIB - 2 * 65536, dirty: false },
      { offsetBytes: 7 * MIB, lengthBytes: MIB, dirty: true },
    ]);
    expect(await device.dirtyStatus(MIB + 1, 1)).toEqual([{ offsetBytes: MIB + 1, lengthBytes: 1, dirty: true }]);
    await device.close();
    const without = await openNbdDevice(uri, { readOnly: true });
    await expect(without.dirtyStatus(0, 1)).rejects.toMatchObject({ code: 'no-bitmap' });
    await without.close();
    const missing = openNbdDevice(uri, { readOnly: true, bitmap: 'day' });
    await expect(missing).rejects.toMatchObject({ code: 'no-bitmap', exitStatus: 1, object: uri });
  });
});
