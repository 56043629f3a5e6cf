// SPDX-License-Identifier: MIT
// Our image locks against QEMU's own.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { openFileDevice } from '#vmar/src/block/file-device.js';
import { haveTool, scratchDirectory } from '../base/scratch.js';

const directory = scratchDirectory();
const MIB = 1 << 20;
const running: ChildProcess[] = [];
let files = 0;

function image(): string {
  const path = join(directory, `image-${files++}`);
  writeFileSync(path, '');
  truncateSync(path, MIB);
  return path;
}

/** Resolves once the program has said something, that is, has opened the image. */
async function hold(command: string, args: readonly string[], say = ''): Promise<void> {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  running.push(child);
  child.stdin.write(say);
  const answered = once(child.stdout, 'data').then(() => 'ready');
  const ended = once(child, 'exit').then(([status]) => `${command} ended with status ${status}`);
  expect(await Promise.race([answered, ended])).toBe('ready');
}

function holdWithQemuIo(path: string, ...options: string[]): Promise<void> {
  return hold('qemu-io', [...options, '-f', 'raw', path], 'length\n');
}

function qemuIo(path: string, ...options: string[]): { status: number | null; stderr: string } {
  return spawnSync('qemu-io', [...options, '-f', 'raw', path], { encoding: 'utf8' });
}

afterEach(async () => {
  for (const child of running.splice(0)) {
    const ended = child.exitCode === null && child.signalCode === null ? once(child, 'exit') : undefined;
    child.kill('SIGKILL');
    await ended;
  }
});

describe.skipIf(!haveTool('qemu-io', 'image locks against QEMU'))('with QEMU', () => {
  it('an image that QEMU writes is not read', async () => {
    const path = image();
    await holdWithQemuIo(path);
    await expect(openFileDevice(path, { readOnly: true })).rejects.toMatchObject({
      code: 'image-locked',
      exitStatus: 5,
      object: path,
      message: expect.stringContaining('another process writes to it'),
      advice: expect.stringMatching(/stop the guest.*QMP socket.*--force-share/i),
    });
    const device = await openFileDevice(path, { readOnly: true, forceShare: true });
    await device.read(0, Buffer.alloc(MIB));
    await device.close();
  });

  it('an image that QEMU reads is read, but not written', async () => {
    const path = image();
    await holdWithQemuIo(path, '-r');
    await (await openFileDevice(path, { readOnly: true })).close();
    await expect(openFileDevice(path, { readOnly: false })).rejects.toMatchObject({
      code: 'image-locked',
      message: expect.stringContaining('another process has it open'),
    });
  });

  it('an image that we read is not written by QEMU', async () => {
    const path = image();
    const device = await openFileDevice(path, { readOnly: true });
    expect(qemuIo(path, '-r', '-c', 'read 0 4k').status).toBe(0);
    expect(qemuIo(path, '-c', 'write 0 4k')).toMatchObject({ status: 1, stderr: expect.stringContaining('lock') });
    await device.close();
    expect(qemuIo(path, '-c', 'write 0 4k').status).toBe(0);
  });

  it('with force-share nobody is kept out', async () => {
    const path = image();
    const device = await openFileDevice(path, { readOnly: true, forceShare: true });
    expect(qemuIo(path, '-c', 'write 0 4k').status).toBe(0);
    await device.close();
  });

  it('an image that we write is not even read by QEMU', async () => {
    const path = image();
    const device = await openFileDevice(path, { readOnly: false });
    expect(qemuIo(path, '-r', '-c', 'read 0 4k')).toMatchObject({ status: 1, stderr: expect.stringContaining('lock') });
    await device.close();
    expect(qemuIo(path, '-r', '-c', 'read 0 4k').status).toBe(0);
  });
});

describe.skipIf(!haveTool('qemu-storage-daemon', 'image locks against an NBD export'))(
  'with qemu-storage-daemon',
  () => {
    const daemon = async (path: string, writable: 'on' | 'off') => {
      const socket = `${path}.sock`;
      const qmp = ['--chardev', 'stdio,id=qmp', '--monitor', 'chardev=qmp'];
      const node = [
        '--blockdev',
        `driver=file,node-name=disk,filename=${path},read-only=${writable === 'on' ? 'off' : 'on'}`,
      ];
      const server = ['--nbd-server', `addr.type=unix,addr.path=${socket}`];
      const served = ['--export', `nbd,id=export,node-name=disk,writable=${writable}`];
      await hold('qemu-storage-daemon', [...node, ...server, ...served, ...qmp]);
    };

    it('an image that it exports for writing is not read', async () => {
      const path = image();
      await daemon(path, 'on');
      await expect(openFileDevice(path, { readOnly: true })).rejects.toMatchObject({ code: 'image-locked' });
    });

    it('an image that it exports for reading is read', async () => {
      const path = image();
      await daemon(path, 'off');
      await (await openFileDevice(path, { readOnly: true })).close();
    });
  },
);

describe('without QEMU', () => {
  it('two may read, one may write', async () => {
    const path = image();
    const readers = [await openFileDevice(path, { readOnly: true }), await openFileDevice(path, { readOnly: true })];
    await expect(openFileDevice(path, { readOnly: false })).rejects.toMatchObject({ code: 'image-locked' });
    for (const reader of readers) await reader.close();
    const writer = await openFileDevice(path, { readOnly: false });
    await expect(openFileDevice(path, { readOnly: true })).rejects.toMatchObject({ code: 'image-locked' });
    await expect(openFileDevice(path, { readOnly: false })).rejects.toMatchObject({ code: 'image-locked' });
    await writer.close();
    await (await openFileDevice(path, { readOnly: true })).close();
  });
});
