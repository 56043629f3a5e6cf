// SPDX-License-Identifier: MIT
// Proves that a snapshot of a running machine stays as it was, to the byte, whatever the guest writes, zeroes and discards
// while it is read, in requests of any size. QEMU before 8.0 gets this wrong by itself. VMAR_TEST_SEED repeats a run.

import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { createQemuSource, type QemuHost } from '#vmar/plugins/source-qemu/source-qemu.js';
import { SILENT } from '#vmar/src/base/log.js';
import { openNbdDevice } from '#vmar/src/nbd/client/nbd-client.js';
import type { BlockDevice } from '#vmar/src/plugin-api.js';
import { checkFeatures } from '#vmar/src/qmp/features.js';
import { runGuarded } from '#vmar/src/qmp/guardian.js';
import { openMonitor } from '#vmar/src/qmp/open-monitor.js';
import { seededRandom } from '../base/random.js';
import { scratchDirectory } from '../base/scratch.js';
import { haveMachine, type Machine, startMachine } from './machine.js';

const MIB = 1 << 20;
const SIZE = 24 * MIB + 33 * 512;
const GUARDIAN = fileURLToPath(new URL('../../dist/bundle/cli/qmp-guardian.js', import.meta.url));
const DEVICE = '/machine/peripheral/vd0/virtio-backend';
const SEED = Number(process.env.VMAR_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));

const host: QemuHost = {
  openMonitor: (address, signal) => openMonitor(address, { signal }),
  checkFeatures,
  runWindow: (plan, signal) => runGuarded(GUARDIAN, plan, signal),
  openExport: (uri, options) => openNbdDevice(uri, { ...options, readOnly: false, connections: 4, reconnectMillis: 0 }),
  uid: process.getuid?.(),
  log: SILENT,
};

describe.skipIf(!haveMachine('snapshots of disks that are discarded'))('a snapshot', () => {
  const directory = scratchDirectory();
  let machine: Machine;

  afterAll(() => machine?.kill());

  const change = async (command: string) => {
    const line = `qemu-io -d ${DEVICE} "${command}"`;
    expect(String(await machine.monitor.ask('human-monitor-command', { 'command-line': line }))).not.toMatch(/fail/i);
  };

  it.each(['raw', 'qcow2'])('of a %s disk stays as it was', async (format) => {
    console.log(`VMAR_TEST_SEED=${SEED}`);
    const random = seededRandom(SEED);
    const content = Buffer.alloc(SIZE);
    // With holes of all sizes.
    for (let at = 0; at < SIZE; ) {
      const length = Math.min(SIZE - at, 512 * random.integer(1, 3000));
      if (!random.oneIn(3)) content.set(random.bytes(length), at);
      at += length;
    }
    const [raw, image] = [`${directory}/${format}.content`, `${directory}/disk.${format}`];
    writeFileSync(raw, content);
    spawnSync('qemu-img', ['convert', '-f', 'raw', '-O', format, raw, image]);
    machine = await startMachine(directory, [
      ...[
        '-blockdev',
        `driver=${format},node-name=d,discard=unmap,file.driver=file,file.filename=${image},file.discard=unmap`,
      ],
      ...['-device', 'virtio-blk-pci,drive=d,id=vd0'],
    ]);
    const fleeceDirectory = `${directory}/fleece-${format}`;
    mkdirSync(fleeceDirectory);
    const address = { kind: 'socket' as const, path: machine.qmp };
    const source = createQemuSource(host, { address, guest: 'vm/100', fleeceDirectory, include: [], exclude: [] });
    await source.survey();
    const snapshot = await source.snapshot({ clusterSizeBytes: 65536 });
    // One large discard, as of fstrim, then all kinds of small ones.
    await change(`discard ${5 * MIB} ${9 * MIB}`);
    for (let turn = 0; turn < 120; turn++) {
      const length = 512 * random.integer(1, random.oneIn(4) ? 2000 : 100);
      const at = 512 * random.integer(0, (SIZE - length) / 512);
      const kind = ['discard', 'write -z -u', 'write -z', `write -P ${random.integer(1, 255)}`][random.integer(0, 3)];
      await change(`${kind} ${at} ${length}`);
    }
    const { device } = snapshot.disks[0]!;
    expect(await readByStatus(device)).toEqual([]);
    const whole = Buffer.alloc(SIZE);
    for (let at = 0; at < SIZE; ) {
      const length = Math.min(SIZE - at, 512 * random.integer(1, 4096));
      await device.read(at, whole.subarray(at, at + length));
      at += length;
    }
    expect(whole.equals(content)).toBe(true);
    await snapshot.end('done');
    await machine.kill();

    /** Where it is said to be zero, and was not. */
    async function readByStatus(disk: BlockDevice): Promise<number[]> {
      const wrong: number[] = [];
      for (let at = 0; at < SIZE; ) {
        for (const { offsetBytes, lengthBytes, state } of await disk.blockStatus(at, SIZE - at)) {
          expect(offsetBytes).toBe(at);
          at += lengthBytes;
          if (state === 'zero' && content.subarray(offsetBytes, at).some((byte) => byte !== 0)) wrong.push(offsetBytes);
        }
      }
      return wrong;
    }
  });
});
