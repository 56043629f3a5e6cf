// SPDX-License-Identifier: MIT
// What a guest feels of the stream job: 4 KiB random writes by fio while the disk is filled behind its back, and the same
// once it is filled.
import { rm } from 'node:fs/promises';
import { openNbdDevice } from '../../../dist/src/nbd/client/nbd-client.js';
import { Vmar } from './vmar.mjs';

const SECONDS = 4;

/** Gives `{ during, after }`, each `{ p99Millis, iops }`. `image` should hold a GiB and more. */
export async function guestLatency(workplace, image) {
  const home = workplace.join('latency');
  const [target, socket] = ['target.raw', 'socket'].map((name) => `${home}-${name}`);
  const vmar = new Vmar(workplace, home);
  await vmar.backUp(image);

  const live = vmar.start('vma-restore', '100', '--live', '--disk', `disk=${target}`, '--socket', socket);
  await live.event(({ event }) => event === 'listening');
  // The command ends once all is filled and nobody is connected.
  const guest = await openNbdDevice(`nbd+unix:///disk?socket=${socket}`, { readOnly: true, connections: 1 });
  const during = await randomWrites(workplace, socket);
  await live.event(({ event }) => event === 'filled');
  const after = await randomWrites(workplace, socket);
  await guest.close();
  await live.ended;
  for (const path of [home, target, `${target}.vmar-live`, socket]) await rm(path, { recursive: true, force: true });
  return { during, after };
}

async function randomWrites(workplace, socket) {
  const { stdout } = await workplace.run('fio', [
    '--name=guest',
    '--ioengine=nbd',
    `--uri=nbd+unix:///disk?socket=${socket}`,
    '--rw=randwrite',
    '--bs=4k',
    '--iodepth=1',
    '--time_based',
    `--runtime=${SECONDS}`,
    '--output-format=json',
  ]);
  const { write } = JSON.parse(stdout.slice(stdout.indexOf('{'))).jobs[0];
  return { p99Millis: write.clat_ns.percentile['99.000000'] / 1e6, iops: write.iops };
}
