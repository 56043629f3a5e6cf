// SPDX-License-Identifier: MIT
// Replication after QEMU's: a primary's writes come over NBD to the secondary disk; what they change is kept in a hidden
// disk by a backup with sync=none; the secondary's own writes lie in an active disk on top. At any time the secondary
// sees the last checkpoint and its own writes, and the secondary disk can be rolled back to that checkpoint.

import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, describe, expect, it } from 'vitest';
import { REAL_CLOCK } from '#vmar/src/base/clock.js';
import { BlockNode } from '#vmar/src/block/block-node.js';
import type { BlockDevice, BlockExtent } from '#vmar/src/block/device.js';
import { openFileDevice } from '#vmar/src/block/file-device.js';
import { AllocTrack } from '#vmar/src/block/filters/alloc-track.js';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import { DiskBackupJob } from '#vmar/src/jobs/backup-disk-job.js';
import { DeviceTarget } from '#vmar/src/jobs/backup-to-device.js';
import { NbdServer } from '#vmar/src/nbd/server/nbd-server.js';
import { seededRandom } from '../base/random.js';
import { readAll } from '../block/device-contract.js';
import { fillRandomly, Guest, TornDisk } from '../jobs/guest.js';

const CLUSTER = 65_536;
const run = promisify(execFile);

/** An empty disk over another. */
function overlay(backing: BlockDevice, store: BlockDevice = new MemoryDevice(backing.lengthBytes)): AllocTrack {
  return new AllocTrack(new BlockNode(store), { backing, targetIsZero: true });
}

/** The hidden disk as the secondary reads it: a cluster that is just being copied out is waited for. */
class ViewOfHidden extends MemoryDevice {
  constructor(
    private readonly hidden: BlockNode,
    private readonly job: DiskBackupJob,
  ) {
    super(hidden.lengthBytes, { name: 'hidden view', readOnly: true });
  }

  override async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    await this.job.waitForOverlapping(offsetBytes, into.byteLength);
    const request = await this.job.beginRequest(offsetBytes, into.byteLength);
    try {
      await this.hidden.read(offsetBytes, into);
    } finally {
      request.end();
    }
  }

  override async blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]> {
    return [{ offsetBytes, lengthBytes, state: 'data' }];
  }
}

class Secondary {
  /** Written by the primary. */
  readonly disk: BlockNode;
  readonly hidden: BlockNode;
  readonly active: BlockNode;
  readonly job: DiskBackupJob;
  #hiddenOverlay: AllocTrack;
  #view: ViewOfHidden;

  constructor(
    disk: BlockDevice,
    private readonly newStore: (lengthBytes: number) => BlockDevice = (lengthBytes) => new MemoryDevice(lengthBytes),
  ) {
    this.disk = new BlockNode(disk);
    this.#hiddenOverlay = overlay(this.disk, newStore(disk.lengthBytes));
    this.hidden = new BlockNode(this.#hiddenOverlay);
    this.job = new DiskBackupJob({
      clock: REAL_CLOCK,
      source: this.disk,
      live: { policy: 'break-guest-write' },
      sync: { mode: 'none' },
      target: new DeviceTarget(this.hidden, disk.lengthBytes, { clusterSizeBytes: CLUSTER, targetIsZero: false }),
    });
    this.#view = new ViewOfHidden(this.hidden, this.job);
    this.active = new BlockNode(overlay(this.#view, newStore(disk.lengthBytes)));
  }

  async start(): Promise<void> {
    this.job.start();
    await this.job.attach();
    while (this.job.status !== 'ready') await turn();
  }

  /** With both guests stopped, as at every checkpoint: `meanwhile` runs when nothing is under way. */
  async checkpoint(meanwhile: () => Promise<void> = async () => {}): Promise<void> {
    await this.active.drained(() =>
      this.job.checkpoint(async () => {
        await meanwhile();
        this.#hiddenOverlay = overlay(this.disk, this.newStore(this.disk.lengthBytes));
        await this.hidden.replace(this.#hiddenOverlay);
        await this.active.replace(overlay(this.#view, this.newStore(this.disk.lengthBytes)));
      }),
    );
  }

  /** The primary is gone: the secondary disk becomes again what it was at the checkpoint. */
  async rollBack(): Promise<void> {
    await this.job.complete();
    await this.job.finished;
    const { held } = this.#hiddenOverlay;
    for (const { offsetBytes, lengthBytes } of held.ranges()) {
      const bytes = Buffer.alloc(lengthBytes);
      await this.hidden.read(offsetBytes, bytes);
      await this.disk.write(offsetBytes, bytes);
    }
  }
}

describe('replication', () => {
  it.each([1, 2, 3, 4])('checkpoints and rolls back under both guests, seed %i', async (seed) => {
    const random = seededRandom(seed);
    const disk = new TornDisk(random.integer(1, 1_500_000), random);
    const start = await fillRandomly(disk, random);
    const secondary = new Secondary(disk, (lengthBytes) => new TornDisk(lengthBytes, random));
    await secondary.start();
    const primary = new Guest(secondary.disk, start, random);
    let saved = start;
    for (let round = 0; round < 4; round++) {
      const guest = new Guest(secondary.active, saved, random);
      primary.requests = 0;
      await Promise.all([primary.work(5, 150), guest.work(5, 150)]);
      expect([primary.failures, guest.failures]).toEqual([[], []]);
      // The primary sees its own writes, the secondary the checkpoint and its own.
      expect((await readAll(secondary.disk)).equals(primary.content)).toBe(true);
      expect((await readAll(secondary.active)).equals(guest.content)).toBe(true);
      expect((await readAll(secondary.hidden)).equals(saved)).toBe(true);
      if (round === 3) break;
      await secondary.checkpoint(async () => {
        saved = Buffer.from(primary.content);
      });
      expect((await readAll(secondary.active)).equals(saved)).toBe(true);
    }
    await secondary.rollBack();
    expect((await readAll(disk)).equals(saved)).toBe(true);
    expect(secondary.disk.device === disk).toBe(true);
  });

  it('copies a cluster out once between two checkpoints', async () => {
    const random = seededRandom(7);
    const disk = new TornDisk(10 * CLUSTER, random);
    const secondary = new Secondary(disk);
    await secondary.start();
    await disk.write(0, Buffer.alloc(10 * CLUSTER, 1));
    for (let round = 1; round <= 3; round++) {
      const before = disk.readBytes;
      for (let at = 0; at < 5; at++) await secondary.disk.write(at * 1000, Buffer.alloc(1000, round + 1));
      expect(disk.readBytes - before).toBe(CLUSTER);
      expect(secondary.job.progress().doneBytes).toBe(round * CLUSTER);
      await secondary.checkpoint();
    }
    await expect(secondary.job.checkpoint()).resolves.toBeUndefined();
    secondary.job.cancel();
    await expect(secondary.job.finished).rejects.toMatchObject({ code: 'interrupted' });
    await expect(secondary.job.checkpoint()).rejects.toMatchObject({ code: 'job-not-running' });
  });

  it('a reader in the list holds a copy back, and a copy the reader', async () => {
    const random = seededRandom(8);
    const disk = new TornDisk(4 * CLUSTER, random);
    const secondary = new Secondary(disk);
    await secondary.start();
    expect(secondary.job.waitForOverlapping(0, 4 * CLUSTER)).toBeUndefined();
    const request = await secondary.job.beginRequest(100, 10);
    let written = false;
    const writing = secondary.disk.write(5000, Buffer.alloc(10, 1)).then(() => {
      written = true;
    });
    await secondary.disk.write(CLUSTER, Buffer.alloc(10, 1));
    for (let turns = 0; turns < 20; turns++) await turn();
    expect(written).toBe(false);
    const waiting = secondary.job.waitForOverlapping(CLUSTER - 10, 5);
    request.end();
    await waiting;
    await writing;
    expect((await readAll(secondary.hidden)).equals(Buffer.alloc(4 * CLUSTER))).toBe(true);
    await secondary.rollBack();
  });
});

const base = mkdtempSync(join(tmpdir(), 'vmar-replication-'));
afterAll(() => rmSync(base, { recursive: true, force: true }));

function haveQemu(): boolean {
  const found = ['qemu-io', 'qemu-img'].every(
    (tool) => spawnSync(tool, ['--version'], { stdio: 'ignore' }).status === 0,
  );
  if (!found) console.warn('\n!!! qemu-io or qemu-img is missing: NOT TESTED: replication with a primary of QEMU\n');
  return found;
}

describe.skipIf(!haveQemu())('replication of what QEMU writes', () => {
  const LENGTH = 8 << 20;

  it('over NBD, into a file that is rolled back', async () => {
    const image = join(base, 'secondary.raw');
    writeFileSync(image, seededRandom(3).bytes(LENGTH));
    const file = await openFileDevice(image, { readOnly: false });
    const secondary = new Secondary(file);
    await secondary.start();
    const socket = join(base, 'nbd.sock');
    const server = new NbdServer({
      exports: [
        { name: 'secondary', device: secondary.disk, readOnly: false },
        { name: 'active', device: secondary.active, readOnly: false },
      ],
    });
    await server.listenUnix(socket);
    const io = async (name: string, ...commands: string[]) => {
      const words = commands.flatMap((command) => ['-c', command]);
      const { stdout } = await run('qemu-io', ['-f', 'raw', ...words, `nbd+unix:///${name}?socket=${socket}`]);
      expect(stdout).not.toMatch(/failed|error/i);
    };
    await io('secondary', 'write -P 1 0 1M', 'write -z 1M 1M', 'discard 2M 64k', 'write -P 2 7000k 4k', 'flush');
    await secondary.checkpoint();
    const checkpoint = join(base, 'checkpoint.raw');
    writeFileSync(checkpoint, await readAll(secondary.disk));
    await io('secondary', 'write -P 3 512k 1M', 'write -P 4 8191k 1k', 'aio_write -P 5 3M 64k', 'aio_flush');
    await io('active', 'read -P 1 0 1M', 'read -P 0 1M 1M', 'read -P 2 7000k 4k', 'write -P 9 600k 8k');
    await io('active', 'read -P 1 512k 88k', 'read -P 9 600k 8k', 'read -P 1 608k 416k');
    await io('secondary', 'read -P 3 512k 1M', 'read -P 5 3M 64k', 'write -z 4M 1M', 'discard 0 64k');
    await server.close();
    await secondary.rollBack();
    await file.flush();
    await file.close();
    execFileSync('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', image, checkpoint]);
  });
});
