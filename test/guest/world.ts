// SPDX-License-Identifier: MIT
// What the tests of the real guest share: its images, a datastore, and the words that start and restore it.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Bench, type Json } from '../cli/bench.js';
import { LiveProcess } from '../live/live-process.js';
import type { DiskFiles } from './disk-check.js';
import { DATA_DISK, type Guest, type GuestDisks, ROOT_DISK, startGuest } from './guest.js';
import { type GuestImages, makeImages } from './images.js';
import type { GuestPackages } from './packages.js';
import { tool } from './tool.js';

/** For a guest whose disk is away for a while: it waits, rather than see errors. */
const RECONNECT_SECONDS = 600;

export class World {
  readonly bench = new Bench();
  /** The one that runs; one at a time. */
  guest!: Guest;
  bootMillis = 0;
  #images!: GuestImages;

  async prepare(packages: GuestPackages): Promise<void> {
    const { bench } = this;
    this.#images = makeImages(packages, bench.directory);
    // With bitmaps that outlive QEMU, and one without.
    tool('qemu-img', ['convert', '-O', 'qcow2', this.#images.root, this.#original.root]);
    await bench.json(['init', 'store']);
    mkdirSync(bench.path('fleece'));
  }

  get #original(): DiskFiles {
    return { root: this.bench.path('root.qcow2'), data: this.#images.data };
  }

  /** To the login prompt, and into a shell. */
  async boot(disks: GuestDisks): Promise<Guest> {
    const began = Date.now();
    this.guest = await startGuest(this.bench.directory, this.#images, disks);
    await this.guest.untilLogin();
    this.bootMillis = Date.now() - began;
    await this.guest.console.logIn();
    return this.guest;
  }

  get originalDisks(): GuestDisks {
    const { root, data } = this.#original;
    return {
      root: `driver=qcow2,node-name=root,discard=unmap,file.driver=file,file.filename=${root}`,
      data: `driver=raw,node-name=data,discard=unmap,file.driver=file,file.filename=${data}`,
    };
  }

  /** What a catastrophe does: QEMU is gone at once, and so are the disks. */
  async destroy(): Promise<void> {
    await this.guest.kill();
    for (const path of Object.values(this.#original)) tool('shred', ['-u', '-n', '1', path]);
  }

  filesIn(directory: string): DiskFiles {
    const at = (name: string) => join(this.bench.path(directory), `${name}.raw`);
    return { root: at(ROOT_DISK), data: at(DATA_DISK) };
  }

  backup(...words: string[]): Promise<Json> {
    return this.bench.json([...this.backupWords('fleece'), ...words]);
  }

  backupWords(fleece: string): string[] {
    return ['backup', '100', '--qmp', this.guest.machine.qmp, '--fleece', this.bench.path(fleece)];
  }

  localDisks(directory: string): GuestDisks {
    const { root, data } = this.filesIn(directory);
    return {
      root: `driver=raw,node-name=root,discard=unmap,file.driver=file,file.filename=${root}`,
      data: `driver=raw,node-name=data,discard=unmap,file.driver=file,file.filename=${data}`,
    };
  }

  /** As docs/LIVE-RESTORE.md says. */
  exportedDisks(): GuestDisks {
    const nbd = (node: string, name: string) =>
      [
        ...[`driver=raw,node-name=${node},discard=unmap,file.driver=nbd,file.server.type=unix`],
        ...[`file.server.path=${this.bench.path('live.sock')},file.export=${name}`],
        ...[`file.reconnect-delay=${RECONNECT_SECONDS},file.open-timeout=60`],
      ].join(',');
    return { root: nbd('root', ROOT_DISK), data: nbd('data', DATA_DISK) };
  }

  liveRestore(backup: string, directory: string, ...words: string[]): LiveProcess {
    mkdirSync(this.bench.path(directory), { recursive: true });
    const { root, data } = this.filesIn(directory);
    const disks = ['--disk', `${ROOT_DISK}=${root}`, '--disk', `${DATA_DISK}=${data}`];
    return new LiveProcess(this.bench, [backup, ...disks, '--socket', this.bench.path('live.sock'), ...words]);
  }

  /** Where startGuest puts the monitor: it can be named before the guest is there. */
  get monitor(): string {
    return this.bench.path('machine.qmp');
  }

  /** Of the backup that begins now. */
  async untilMoment(): Promise<void> {
    const known = this.pausesMillis.length;
    while (this.pausesMillis.length === known) await delay(20);
  }

  /** How long the guest stood still, each time. */
  get pausesMillis(): number[] {
    const { events } = this.guest.machine.monitor;
    const pauses = events.filter(({ event }) => event === 'STOP' || event === 'RESUME');
    return pauses.flatMap(({ event, atMicros }, at) => {
      const before = pauses[at - 1];
      return event === 'RESUME' && before?.event === 'STOP' ? [(atMicros - before.atMicros) / 1000] : [];
    });
  }

  /** The files that QEMU has its disks in. */
  async filesInUse(): Promise<string[]> {
    const drives = (await this.guest.machine.monitor.ask('query-block')) as Json;
    return drives.map((drive: Json) => drive.inserted.file).sort();
  }
}
