// SPDX-License-Identifier: MIT
// kill -9 of vma-restore at random moments while a guest writes, through the real command line. VMAR_LIVE_KILLS=200 makes
// a long campaign of it, and VMAR_LIVE_SEED repeats one.

import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { type NbdDevice, openNbdDevice } from '#vmar/src/nbd/client/nbd-client.js';
import { seededRandom } from '../base/random.js';
import { Bench } from '../cli/bench.js';
import { exportUri, LiveProcess } from './live-process.js';

const KILLS = Number(process.env.VMAR_LIVE_KILLS ?? 8);
const SEED = Number(process.env.VMAR_LIVE_SEED ?? Math.floor(Math.random() * 2 ** 31));
const random = seededRandom(SEED);
console.info(`VMAR_LIVE_SEED=${SEED} VMAR_LIVE_KILLS=${KILLS}`);

const MIB = 1 << 20;
const SIZE = 24 * MIB + 12_345;
const WRITERS = 6;
const bench = new Bench();
let image: Buffer;

beforeAll(async () => {
  await bench.json(['init', bench.store]);
  image = Buffer.alloc(SIZE);
  for (let at = 0; at < SIZE; at += MIB) {
    if (!random.oneIn(3)) image.set(random.bytes(Math.min(random.integer(1, MIB), SIZE - at)), at);
  }
  writeFileSync(bench.path('a.raw'), image);
  await bench.json(['backup', '100', '--disk', 'scsi0=a.raw']);
});

interface UnderWay {
  readonly at: number;
  readonly data: Uint8Array;
}

/** A guest that remembers what was acknowledged, and what was being written when it lost its disk. */
class Guest {
  readonly truth: Buffer;
  readonly #underWay = new Set<UnderWay>();
  acknowledged = 0;
  #wrong: Error | undefined;

  constructor(content: Uint8Array) {
    this.truth = Buffer.from(content);
  }

  /** Writes until it cannot any more, or `isOver`. */
  async run(device: NbdDevice, isOver: () => boolean): Promise<void> {
    const writer = async (part: number): Promise<void> => {
      const size = Math.floor(SIZE / WRITERS);
      while (!isOver()) {
        const length = random.oneIn(8) ? random.integer(1, 300_000) : random.integer(1, 16) * 512;
        const at = part * size + random.integer(0, size - length);
        const turn = random.integer(0, 9);
        if (turn === 0) await device.flush();
        else if (turn === 1) await this.#compare(device, at, length);
        else await this.#write(device, at, random.oneIn(6) ? Buffer.alloc(length) : random.bytes(length));
      }
    };
    await Promise.allSettled(Array.from({ length: WRITERS }, (_, part) => writer(part)));
    if (this.#wrong !== undefined) throw this.#wrong;
  }

  async #write(device: NbdDevice, at: number, data: Uint8Array): Promise<void> {
    const write = { at, data };
    this.#underWay.add(write);
    await device.write(at, data);
    this.#underWay.delete(write);
    this.truth.set(data, at);
    this.acknowledged++;
  }

  async #compare(device: NbdDevice, at: number, length: number): Promise<void> {
    const found = Buffer.alloc(length);
    await device.read(at, found);
    if (found.equals(this.truth.subarray(at, at + length))) return;
    this.#wrong = new Error(`other data at ${at}, ${length} bytes`);
    throw this.#wrong;
  }

  /** Looks what became of the writes that were under way. */
  async settle(device: NbdDevice): Promise<void> {
    for (const { at, data } of this.#underWay) {
      const found = Buffer.alloc(data.length);
      await device.read(at, found);
      this.#settleWith(found, at, data);
    }
    this.#underWay.clear();
  }

  /** Each byte is as before or as written. */
  #settleWith(found: Uint8Array, at: number, data: Uint8Array): void {
    for (const [index, byte] of data.entries()) {
      if (found[index] === byte) this.truth[at + index] = byte;
      else if (found[index] !== this.truth[at + index]) throw new Error(`other data at ${at + index}, half written`);
    }
  }

  /** All that was acknowledged is there; to be called when nothing is under way. */
  check(found: Buffer): void {
    if (found.equals(this.truth)) return;
    const at = found.findIndex((byte, index) => byte !== this.truth[index]);
    throw new Error(`other data at ${at}: ${found[at]} in place of ${this.truth[at]}, backup ${image[at]}`);
  }
}

const connect = (): Promise<NbdDevice> =>
  openNbdDevice(exportUri(bench, 'scsi0'), { readOnly: false, connections: 2, reconnectMillis: 0 });

async function readWhole(device: NbdDevice): Promise<Buffer> {
  const found = Buffer.alloc(SIZE);
  for (let at = 0; at < SIZE; at += MIB) await device.read(at, found.subarray(at, Math.min(SIZE, at + MIB)));
  return found;
}

describe('kill -9 of a live restore', () => {
  it(
    'costs no write that was acknowledged, and the same command goes on',
    async () => {
      const words = ['100', '--disk', 'scsi0=t.raw', '--socket', 's.sock', '--speed', '2MiB'];
      const guest = new Guest(image);
      let resumed = 0;
      for (let kill = 0; kill < KILLS; kill++) {
        const live = new LiveProcess(bench, words);
        const { disks } = await live.until('listening');
        if (disks[0].resumed) resumed++;
        const device = await connect();
        await guest.settle(device);
        // To read all fills all: mostly only a part is looked at, by the guest itself.
        if (kill > 0 && random.oneIn(3)) guest.check(await readWhole(device));
        let isOver = false;
        const running = guest.run(device, () => isOver);
        await delay(random.integer(0, 700));
        await live.signal('SIGKILL');
        isOver = true;
        await running;
        await device.close().catch(() => undefined);
        if (random.oneIn(4)) rmSync(bench.path('s.sock'), { force: true });
      }
      const last = new LiveProcess(bench, words.slice(0, -2));
      await last.until('listening');
      const device = await connect();
      await guest.settle(device);
      guest.check(await readWhole(device));
      let isOver = false;
      const running = guest.run(device, () => isOver);
      await last.until('done');
      await delay(100);
      isOver = true;
      await running;
      guest.check(await readWhole(device));
      await device.close();
      expect(await last.status()).toBe(0);
      guest.check(readFileSync(bench.path('t.raw')));
      console.info(`${KILLS} kills, ${resumed} resumed, ${guest.acknowledged} writes acknowledged`);
      expect(resumed).toBe(KILLS - 1);
      expect(guest.acknowledged).toBeGreaterThan(KILLS);
    },
    60_000 + KILLS * 10_000,
  );
});
