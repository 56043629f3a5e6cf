// SPDX-License-Identifier: MIT
// Proves: the disks of a qemu-storage-daemon, which cannot be paused, are moved to the targets while they are written to,
// and no write is lost.

import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { Bench } from '../cli/bench.js';
import { makeImage, noise } from '../cli/images.js';
import { guestState } from '../qmp/guest-state.js';
import { LiveWriter } from '../qmp/live-writer.js';
import { haveStorageDaemon, startStorageDaemon } from '../qmp/storage-daemon.js';
import { LiveProcess } from './live-process.js';

const MIB = 1 << 20;
const SIZES = [8 * MIB, 4 * MIB];
const SEED = Number(process.env.VMAR_LIVE_SEED ?? Math.floor(Math.random() * 1e6));
const NAMES = ['a', 'b'];

it.skipIf(!haveStorageDaemon('moving disks of a storage daemon'))(
  `moves disks of a storage daemon, seed ${SEED}`,
  async () => {
    const bench = new Bench();
    await bench.json(['init', bench.store]);
    const images = NAMES.map((name, at) => {
      return readFileSync(makeImage(bench.path(`${name}.img`), SIZES[at]!, [{ at: MIB, bytes: noise(9) }]));
    });
    await bench.json(['backup', '100', '--disk', 'a=a.img', '--disk', 'b=b.img']);
    const words = ['100', '--disk', 'a=a.raw', '--disk', 'b=b.raw', '--socket', 's.sock', '--qmp', 'qmp.sock'];
    const live = new LiveProcess(bench, [...words, '--speed', '4MiB']);
    await live.until('listening');
    const disks = NAMES.map((name) => ({ name, image: bench.path('s.sock'), format: 'nbd' as const }));
    const daemon = await startStorageDaemon(bench.directory, disks);
    const writer = new LiveWriter(SEED, SIZES);
    try {
      writer.hasty = true;
      await writer.start(daemon.mounts.values());
      expect(await live.until('switched')).toMatchObject({ paused: 0, disks: [{ disk: 'a' }, { disk: 'b' }] });
      expect(await live.status()).toBe(0);
      await delay(200);
      await writer.stop();
      const { nodes, edges } = await guestState(daemon.qmp);
      expect(nodes).toEqual(['a', 'b', 'restored-a', 'restored-b']);
      expect(edges).toContain('a file restored-a');
    } finally {
      await daemon.stop();
      if (!live.hasEnded) await live.signal('SIGKILL');
    }
    for (const [at, written] of writer.contents(writer.writes).entries()) {
      const expected = Buffer.from(images[at]!);
      for (let word = 0; word < expected.length; word += 8) {
        if (written.readBigUInt64LE(word) !== 0n) written.copy(expected, word, word, word + 8);
      }
      expect(readFileSync(bench.path(`${NAMES[at]}.raw`)).equals(expected)).toBe(true);
    }
    console.log(`${writer.writes} writes`);
  },
  60_000,
);
