// SPDX-License-Identifier: MIT
// Mirror and stream with parts that nobody here wrote: fio as a guest that checks what it wrote, qemu-nbd with qcow2 on
// the other side, qemu-img to compare.

import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { REAL_CLOCK } from '#vmar/src/base/clock.js';
import { BlockNode } from '#vmar/src/block/block-node.js';
import { openFileDevice } from '#vmar/src/block/file-device.js';
import { type MirrorCopyMode, MirrorJob } from '#vmar/src/jobs/mirror-job.js';
import { insertBacking, NodeStreamJob } from '#vmar/src/jobs/stream-node.js';
import { openNbdDevice } from '#vmar/src/nbd/client/nbd-client.js';
import { seededRandom } from '../base/random.js';
import { haveTool } from '../base/scratch.js';
import { qemuNbd } from '../nbd/client/servers.js';
import { run, serving } from '../nbd/server/serving.js';

const MIB = 2 ** 20;
const LENGTH = 48 * MIB;

const { directory, serve } = serving();
const haveTools = ['qemu-nbd', 'qemu-img', 'fio'].every((tool) => haveTool(tool, 'live jobs with other programs'));

async function rawDisk(name: string, seed: number): Promise<string> {
  const path = join(directory, name);
  const bytes = Buffer.alloc(LENGTH);
  const random = seededRandom(seed);
  for (let at = 0; at < LENGTH; at += MIB) if (random.oneIn(2)) bytes.set(random.bytes(MIB), at);
  writeFileSync(path, bytes);
  return path;
}

function qcow2(name: string): string {
  const path = join(directory, name);
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', path, String(LENGTH)]);
  return path;
}

/** A guest that writes all over the device and reads back all that it wrote; or reads it back only. */
async function fio(uri: string, ...more: string[]): Promise<void> {
  const job = ['--name=guest', '--ioengine=nbd', `--uri=${uri}`, '--rw=randwrite', '--bsrange=512-64k', '--iodepth=8'];
  const checks = [
    '--blockalign=512',
    '--verify=crc32c',
    '--verify_state_save=0',
    '--do_verify=1',
    '--verify_fatal=1',
    ...more,
  ];
  const { status, stdout, stderr } = await run('fio', [...job, ...checks, `--size=${LENGTH}`, '--randseed=7']);
  expect(`${status} ${stderr}${status === 0 ? '' : stdout}`).toBe('0 ');
}

const until = async (condition: () => boolean) => {
  while (!condition()) await delay(5);
};

describe.skipIf(!haveTools)('a mirror from a raw file to a qcow2 image of qemu-nbd', () => {
  it.each<MirrorCopyMode>(['background', 'write-blocking'])(
    'under fio, %s: fio finds after the switch what it wrote before',
    async (copyMode) => {
      const path = await rawDisk('source.raw', 1);
      const image = qcow2(`switch-${copyMode}.qcow2`);
      const { uri, kill } = await qemuNbd(join(directory, `to-${copyMode}`), '--format=qcow2', image);
      const target = await openNbdDevice(uri, { readOnly: false });
      const node = new BlockNode(await openFileDevice(path, { readOnly: false }));
      const served = await serve(node);
      const job = new MirrorJob({
        ...{ source: node, target, sync: 'full', copyMode, clock: REAL_CLOCK, targetIsZero: true },
        targetClusterBytes: 65536,
      });
      const guest = fio(served.uri());
      await until(() => served.server.clientCount > 0);
      job.start();
      await until(() => job.status === 'ready' || job.status === 'concluded');
      await job.complete();
      await job.finished;
      expect(node.device).toBe(target);
      await job.formerSource?.close();
      await guest;
      await fio(served.uri(), '--verify_only=1');
      const later = await run('qemu-io', ['-f', 'raw', '-c', 'write -P 0x5a 1M 64k', '-c', 'flush', served.uri()]);
      expect(later.status).toBe(0);
      await kill();
      const check = await run('qemu-io', ['-r', '-f', 'qcow2', '-c', 'read -P 0x5a 1M 64k', image]);
      expect(check.stdout).not.toContain('failed');
      expect(check.status).toBe(0);
    },
  );

  it('cancelled when ready, leaves an image that qemu-img finds identical', async () => {
    const path = await rawDisk('source2.raw', 2);
    const image = qcow2('cancel.qcow2');
    const { uri } = await qemuNbd(join(directory, 'to-cancel'), '--format=qcow2', '--discard=unmap', image);
    const target = await openNbdDevice(uri, { readOnly: false });
    const node = new BlockNode(await openFileDevice(path, { readOnly: false }));
    const served = await serve(node);
    const job = new MirrorJob({ source: node, target, sync: 'full', clock: REAL_CLOCK });
    job.start();
    await fio(served.uri());
    await run('qemu-io', ['-f', 'raw', '-c', 'write -z 3M 5M', '-c', 'discard 20M 3M', served.uri()]);
    await until(() => job.status === 'ready' || job.status === 'concluded');
    job.cancel();
    await job.finished;
    await target.close();
    await node.close();
    // qemu-nbd has the image open still.
    const compared = await run('qemu-img', ['compare', '-U', '-f', 'raw', '-F', 'qcow2', path, image]);
    expect(compared.stdout.trim()).toBe('Images are identical.');
  });
});

describe.skipIf(!haveTools)('a stream from a qcow2 image of qemu-nbd into a raw file', () => {
  it('under fio: fio finds what it wrote, and the rest is the image', async () => {
    const source = await rawDisk('image.raw', 3);
    const image = join(directory, 'image.qcow2');
    execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', source, image]);
    const { uri } = await qemuNbd(join(directory, 'from'), '--format=qcow2', '--read-only', image);
    const backing = await openNbdDevice(uri, { readOnly: true });
    const path = join(directory, 'target.raw');
    writeFileSync(path, '');
    execFileSync('truncate', ['-s', String(LENGTH), path]);
    const node = new BlockNode(await openFileDevice(path, { readOnly: false }));
    const filter = await insertBacking(node, backing, { targetIsZero: true });
    const served = await serve(node);
    const job = new NodeStreamJob({ node, filter, clock: REAL_CLOCK, speedBytesPerSecond: 64 * MIB });
    job.start();
    const half = LENGTH / 2;
    const words = [
      '--name=guest',
      '--ioengine=nbd',
      `--uri=${served.uri()}`,
      '--rw=randwrite',
      '--bs=4k',
      '--iodepth=8',
    ];
    const checks = [
      '--verify=crc32c',
      '--verify_state_save=0',
      '--do_verify=1',
      '--verify_fatal=1',
      `--offset=${half}`,
      `--size=${half}`,
    ];
    const ran = await run('fio', [...words, ...checks]);
    expect(`${ran.status} ${ran.stderr}`).toBe('0 ');
    await job.finished;
    expect(filter.isComplete).toBe(true);
    await backing.close();
    execFileSync('cmp', ['-n', String(half), source, path]);
    await run('qemu-io', ['-f', 'raw', '-c', 'flush', served.uri()]);
  });
});
