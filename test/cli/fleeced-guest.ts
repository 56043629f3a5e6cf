// SPDX-License-Identifier: MIT
// A qemu-storage-daemon in the place of a guest and of the host that prepares its backup: a disk that is written to through
// NBD, and for each night a fleeced snapshot with a dirty bitmap that is exported as Proxmox VE does it: what is clean
// cannot be read.

import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type NbdDevice, openNbdDevice } from '#vmar/src/nbd/client/nbd-client.js';
import type { ArgumentsOf, CommandName } from '#vmar/src/qmp/commands.js';
import type { Monitor } from '#vmar/src/qmp/monitor.js';
import { openMonitor } from '#vmar/src/qmp/open-monitor.js';
import { isListening } from '../qmp/listening.js';

export interface NightOptions {
  readonly bitmap?: { readonly name: string; readonly mode: 'new' | 'reuse' };
  readonly writable?: boolean;
}

const EXPORT = 'drive-scsi0';

export class FleecedGuest {
  readonly #directory: string;
  readonly #child: ChildProcess;
  readonly #monitor: Monitor;
  readonly #guest: NbdDevice;
  readonly lengthBytes: number;
  #night: NightOptions = {};

  private constructor(directory: string, child: ChildProcess, monitor: Monitor, guest: NbdDevice) {
    this.#directory = directory;
    this.#child = child;
    this.#monitor = monitor;
    this.#guest = guest;
    this.lengthBytes = guest.lengthBytes;
  }

  /** In an empty directory. */
  static async start(directory: string, lengthBytes: number): Promise<FleecedGuest> {
    const [disk, qmp, socket] = ['disk.raw', 'qmp.sock', 'nbd.sock'].map((name) => join(directory, name));
    if (!existsSync(disk!)) writeFileSync(disk!, '');
    truncateSync(disk!, lengthBytes);
    const child = spawn(
      'qemu-storage-daemon',
      [
        ...['--chardev', `socket,path=${qmp},server=on,wait=off,id=c0`, '--monitor', 'chardev=c0'],
        ...['--blockdev', `driver=raw,node-name=source,file.driver=file,file.filename=${disk},discard=unmap`],
        ...['--blockdev', 'driver=raw,node-name=top,file=source,discard=unmap'],
        ...['--nbd-server', `addr.type=unix,addr.path=${socket},max-connections=32`],
        ...['--export', 'type=nbd,id=guest,node-name=top,name=guest,writable=on'],
      ],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    );
    while (!isListening(qmp!) || !isListening(socket!)) await delay(5);
    const monitor = await openMonitor({ kind: 'socket', path: qmp! });
    const uri = `nbd+unix:///guest?socket=${encodeURIComponent(socket!)}`;
    return new FleecedGuest(directory, child, monitor, await openNbdDevice(uri, { readOnly: false }));
  }

  async #do<C extends CommandName>(command: C, given: ArgumentsOf<C>): Promise<void> {
    await this.#monitor.execute(command, given);
  }

  async write(offsetBytes: number, bytes: Uint8Array): Promise<void> {
    await this.#guest.write(offsetBytes, bytes);
  }

  async trim(offsetBytes: number, lengthBytes: number): Promise<void> {
    await this.#guest.writeZeroes(offsetBytes, lengthBytes);
  }

  /** What it reads now. */
  async content(): Promise<Buffer> {
    const bytes = Buffer.alloc(this.lengthBytes);
    await this.#guest.read(0, bytes);
    return bytes;
  }

  /** The snapshot begins: gives its URI. The bitmap of a night before must be there for `reuse`. */
  async evening(options: NightOptions = {}): Promise<string> {
    this.#night = options;
    const { bitmap } = options;
    const fleece = join(this.#directory, 'fleece.raw');
    writeFileSync(fleece, '');
    truncateSync(fleece, this.lengthBytes);
    if (bitmap !== undefined) await this.#beginBitmap(bitmap);
    const place = { node: 'source', name: bitmap?.name ?? '' };
    await this.#do('blockdev-add', { driver: 'file', 'node-name': 'fleece', filename: fleece, discard: 'unmap' });
    await this.#do('blockdev-add', {
      ...{ driver: 'copy-before-write', 'node-name': 'cbw', file: 'source', target: 'fleece', discard: 'unmap' },
      ...{ 'on-cbw-error': 'break-snapshot', 'cbw-timeout': 45 },
      ...(bitmap?.mode === 'reuse' ? { bitmap: place } : {}),
    });
    await this.#putUnderGuest('cbw');
    await this.#do('blockdev-add', {
      ...{ driver: 'snapshot-access', 'node-name': 'access', file: 'cbw', discard: 'unmap' },
    });
    await this.#do('block-export-add', {
      ...{ type: 'nbd', id: 'night', 'node-name': 'access', name: EXPORT, writable: options.writable === true },
      ...(bitmap?.mode === 'reuse' ? { bitmaps: [place] } : {}),
    });
    return `nbd+unix:///${EXPORT}?socket=${encodeURIComponent(join(this.#directory, 'nbd.sock'))}`;
  }

  async #beginBitmap({ name, mode }: { name: string; mode: 'new' | 'reuse' }): Promise<void> {
    const next = { node: 'source', name: `${name}-next`, granularity: 4096, persistent: false };
    const stop = { type: 'block-dirty-bitmap-disable', data: { node: 'source', name } } as const;
    const add = { type: 'block-dirty-bitmap-add', data: next } as const;
    await this.#do('transaction', { actions: mode === 'reuse' ? [add, stop] : [add] });
  }

  async #putUnderGuest(file: string): Promise<void> {
    await this.#do('blockdev-reopen', { options: [{ driver: 'raw', 'node-name': 'top', file, discard: 'unmap' }] });
  }

  /** What the snapshot takes aside now. */
  get fleeceBytes(): number {
    return statSync(join(this.#directory, 'fleece.raw')).blocks * 512;
  }

  /** The snapshot ends. The bitmap follows this night if it succeeded, else the one before, and nothing is lost. */
  async morning(succeeded: boolean): Promise<void> {
    const gone = new Promise<void>((resolve) => {
      const end = this.#monitor.onEvent((event) => {
        if (event.event !== 'BLOCK_EXPORT_DELETED' || event.id !== 'night') return;
        end();
        resolve();
      });
    });
    await this.#do('block-export-del', { id: 'night', mode: 'hard' });
    await gone;
    await this.#do('blockdev-del', { 'node-name': 'access' });
    await this.#putUnderGuest('source');
    await this.#do('blockdev-del', { 'node-name': 'cbw' });
    await this.#do('blockdev-del', { 'node-name': 'fleece' });
    rmSync(join(this.#directory, 'fleece.raw'));
    const { bitmap } = this.#night;
    if (bitmap !== undefined) await this.#endBitmap(bitmap, succeeded);
  }

  async #endBitmap({ name, mode }: { name: string; mode: 'new' | 'reuse' }, succeeded: boolean): Promise<void> {
    const node = 'source';
    const next = `${name}-next`;
    const merge = { type: 'block-dirty-bitmap-merge', data: { node, target: name, bitmaps: [next] } } as const;
    const add = { type: 'block-dirty-bitmap-add', data: { node, name, granularity: 4096, persistent: false } } as const;
    if (mode === 'reuse') {
      if (succeeded) await this.#do('block-dirty-bitmap-remove', { node, name });
      else await this.#do('transaction', { actions: [{ type: 'block-dirty-bitmap-enable', data: { node, name } }] });
    }
    if (succeeded) await this.#do('transaction', { actions: [add] });
    if (succeeded || mode === 'reuse') await this.#do('transaction', { actions: [merge] });
    await this.#do('block-dirty-bitmap-remove', { node, name: next });
  }

  async stop(): Promise<void> {
    await this.#guest.close();
    await this.#monitor.close();
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGTERM');
    await ended;
  }

  /** The image, once it was stopped. */
  image(): Buffer {
    return readFileSync(join(this.#directory, 'disk.raw'));
  }
}
