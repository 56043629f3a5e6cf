// SPDX-License-Identifier: MIT
// Proves that a storage daemon is backed up which exports its disk over NBD to whoever writes to it: it has no other server
// for the backup.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type NbdDevice, openNbdDevice } from '#vmar/src/nbd/client/nbd-client.js';
import { haveTool } from '../base/scratch.js';
import { Bench } from '../cli/bench.js';
import { type GuestState, guestState } from './guest-state.js';
import { isListening } from './listening.js';
import { LiveWriter } from './live-writer.js';

const SIZE = 16 << 20;
const SEED = Number(process.env.VMAR_LIVE_SEED ?? Math.floor(Math.random() * 1e6));

describe.skipIf(!haveTool('qemu-storage-daemon', 'backups through an NBD server that is there'))(
  `a daemon that serves its disk over NBD, seed ${SEED}`,
  () => {
    const bench = new Bench();
    const qmp = bench.path('d.qmp');
    let daemon: ChildProcess;
    let disk: NbdDevice;
    let before: GuestState;
    const writer = new LiveWriter(SEED, [SIZE]);

    beforeAll(async () => {
      await bench.json(['init', 'store']);
      mkdirSync(bench.path('fleece'));
      spawnSync('qemu-img', ['create', '-q', '-f', 'qcow2', bench.path('a.qcow2'), String(SIZE)]);
      daemon = spawn(
        'qemu-storage-daemon',
        [
          ...['--chardev', 'socket,path=d.qmp,server=on,wait=off,id=c0', '--monitor', 'chardev=c0'],
          // Another socket, which is no NBD server and has a client.
          ...['--chardev', 'socket,path=other.qmp,server=on,wait=off,id=c1', '--monitor', 'chardev=c1'],
          ...['--blockdev', 'driver=qcow2,node-name=image,file.driver=file,file.filename=a.qcow2,discard=unmap'],
          ...['--blockdev', 'driver=raw,node-name=a,file=image,discard=unmap'],
          ...['--nbd-server', 'addr.type=unix,addr.path=its nbd'],
          ...['--export', 'type=nbd,id=guest,node-name=a,name=disk0,writable=on'],
        ],
        { cwd: bench.directory, stdio: 'ignore' },
      );
      while (!isListening('its nbd') || !isListening('d.qmp')) {
        if (daemon.exitCode !== null) throw new Error('qemu-storage-daemon did not start');
        await delay(10);
      }
      before = await guestState(qmp);
      const uri = `nbd+unix:///disk0?socket=${encodeURIComponent(bench.path('its nbd'))}`;
      disk = await openNbdDevice(uri, { readOnly: false });
      writer.startOn([{ write: (bytes, _from, _length, at) => disk.write(at, bytes), close: () => disk.close() }]);
    });

    afterAll(async () => {
      await writer.stop();
      daemon.kill('SIGKILL');
    });

    const words = ['backup', '100', '--qmp', qmp, '--fleece', bench.path('fleece')];

    async function expectGood(): Promise<{ readonly fullReason?: string }> {
      const least = writer.writes;
      const { backup } = await bench.json(words);
      const most = writer.writes + 1;
      rmSync(bench.path('out'), { recursive: true, force: true });
      await bench.json(['restore', backup, '--to', 'out']);
      const moment = writer.momentOf([readFileSync(bench.path('out', 'a.raw'))]);
      expect(moment).toBeGreaterThanOrEqual(least);
      expect(moment).toBeLessThanOrEqual(most);
      expect(await guestState(qmp)).toEqual({ ...before, bitmaps: ['image true'] });
      return (await bench.json(['show', backup])).disks[0];
    }

    it('is backed up while it writes, in full and then what changed', async () => {
      await expectGood();
      expect((await expectGood()).fullReason).toBeUndefined();
    });

    it('is cleared up when a backup was killed, and serves on', async () => {
      const { child, finished } = bench.start([...words, '--speed', '1MiB']);
      while (!(await guestState(qmp).catch(() => before)).exports.some((id) => id.startsWith('vmar-'))) await delay(10);
      child.kill('SIGKILL');
      await finished;
      expect((await expectGood()).fullReason).toBeUndefined();
    });
  },
);
