// SPDX-License-Identifier: MIT
// A qemu-storage-daemon whose disks a test writes to through FUSE, as a guest would. One disk is a `raw` node over the
// node that has the image, so that filters can be put between them.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { accessSync, existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { QmpClient } from '#vmar/src/qmp/qmp-client.js';
import { isListening } from './listening.js';

export interface DaemonDisk {
  readonly name: string;
  /** A file; of "nbd" the socket of a server, whose export has the disk's name. */
  readonly image: string;
  readonly format: 'raw' | 'qcow2' | 'nbd';
}

export interface StorageDaemon {
  readonly child: ChildProcess;
  /** The socket of its monitor. */
  readonly qmp: string;
  /** What a guest would write to, by the disk's name. */
  readonly mounts: ReadonlyMap<string, string>;
  /** Ends it as a user would, images closed. */
  stop(): Promise<void>;
  /** kill -9. */
  kill(): Promise<void>;
}

/** Whether both are there; says loudly what is not tested when not. */
export function haveStorageDaemon(untested: string): boolean {
  try {
    accessSync('/dev/fuse', 6);
    if (spawnSync('qemu-storage-daemon', ['--version']).error === undefined) return true;
  } catch {}
  console.warn(`\n!!! qemu-storage-daemon or /dev/fuse is missing: NOT TESTED: ${untested}\n`);
  return false;
}

export async function startStorageDaemon(directory: string, disks: readonly DaemonDisk[]): Promise<StorageDaemon> {
  const qmp = join(directory, 'qmp.sock');
  // One that was killed leaves it.
  rmSync(qmp, { force: true });
  const words = ['--chardev', `socket,path=${qmp},server=on,wait=off,id=c0`, '--monitor', 'chardev=c0'];
  const mounts = new Map<string, string>();
  for (const { name, image, format } of disks) {
    const mount = join(directory, `${name}.mount`);
    if (!existsSync(mount)) writeFileSync(mount, '');
    mounts.set(name, mount);
    const place =
      format === 'nbd'
        ? `server.type=unix,server.path=${image},export=${name}`
        : `file.driver=file,file.filename=${image}`;
    const below = `driver=${format},node-name=${name}-image,${place},discard=unmap`;
    words.push('--blockdev', below, '--blockdev', `driver=raw,node-name=${name},file=${name}-image,discard=unmap`);
    words.push('--export', `type=fuse,id=fuse-${name},node-name=${name},mountpoint=${mount},writable=on`);
  }
  const child = spawn('qemu-storage-daemon', words, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr?.on('data', (bytes: Buffer) => {
    said += bytes.toString();
  });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  try {
    while (!isListening(qmp)) {
      if (child.exitCode !== null) throw new Error(`qemu-storage-daemon did not start: ${said}`);
      await delay(10);
    }
    // The socket is there, and greets, before the disks are; commands are answered when all is.
    await (await QmpClient.open(qmp)).close();
  } catch (error) {
    // Left alone it would keep the images of those that start after it.
    child.kill('SIGKILL');
    throw error;
  }
  const end = async (signal: NodeJS.Signals) => {
    child.kill(signal);
    // A daemon that hangs is found by the test; it must not hang, too.
    await Promise.race([ended, delay(10_000, undefined, { ref: false })]);
    child.kill('SIGKILL');
    await ended;
    for (const mount of mounts.values()) spawnSync('fusermount', ['-u', '-z', mount], { stdio: 'ignore' });
  };
  return { child, qmp, mounts, stop: () => end('SIGTERM'), kill: () => end('SIGKILL') };
}
