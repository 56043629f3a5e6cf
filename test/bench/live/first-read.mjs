// SPDX-License-Identifier: MIT
// From the start of `vma-restore --live` to the first read that a client gets answered, for a large sparse disk.
import { existsSync } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { openNbdDevice } from '../../../dist/src/nbd/client/nbd-client.js';
import { Vmar } from './vmar.mjs';

const TIB = 2 ** 40;
const PLACES = 64;
const PLACE_BYTES = 2 ** 20;

/** Gives the seconds. */
export async function firstRead(workplace) {
  const home = workplace.join('first-read');
  const [image, target, socket] = ['disk.raw', 'target.raw', 'socket'].map((name) => `${home}-${name}`);
  const expected = await makeImage(image);
  const vmar = new Vmar(workplace, home);
  await vmar.backUp(image);

  const start = performance.now();
  const live = vmar.start('vma-restore', '100', '--live', '--disk', `disk=${target}`, '--socket', socket);
  const found = Buffer.alloc(PLACE_BYTES);
  const device = await connect(socket);
  await device.read((PLACES - 1) * (TIB / PLACES), found);
  const seconds = (performance.now() - start) / 1000;
  await device.close();
  if (!found.equals(expected)) throw new Error('the first read gave something else than the backup holds');
  await live.stop();
  for (const path of [home, image, target, `${target}.vmar-live`, socket])
    await rm(path, { recursive: true, force: true });
  return seconds;
}

/** A sparse disk with a MiB of noise at every 64th of it; gives the last of them. */
async function makeImage(path) {
  const file = await open(path, 'w');
  const bytes = Buffer.alloc(PLACE_BYTES);
  for (let at = 0; at < bytes.length; at++) bytes[at] = (at * 2654435761) >>> 13;
  for (let place = 0; place < PLACES; place++) {
    bytes.writeUInt32LE(place, 0);
    await file.write(bytes, 0, bytes.length, place * (TIB / PLACES));
  }
  await file.truncate(TIB);
  await file.close();
  return bytes;
}

async function connect(socket) {
  for (;;) {
    if (existsSync(socket)) {
      try {
        return await openNbdDevice(`nbd+unix:///disk?socket=${socket}`, { readOnly: true, connections: 1 });
      } catch {}
    }
    await delay(2);
  }
}
