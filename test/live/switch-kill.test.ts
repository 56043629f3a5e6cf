// SPDX-License-Identifier: MIT
// Proves: kill -9 of vma-restore at any moment of a move costs no write and leaves no guest paused, and the same command
// goes on and ends with 0. VMAR_SWITCH_KILLS=50 makes a long campaign of the random moments.

import { existsSync, readFileSync, rmSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { seededRandom } from '../base/random.js';
import { Bench } from '../cli/bench.js';
import { makeImage, noise } from '../cli/images.js';
import { guestState } from '../qmp/guest-state.js';
import { haveMachine, type Machine, startMachine } from '../qmp/machine.js';
import { LiveProcess } from './live-process.js';
import { acknowledged, BLOCK_BYTES, BLOCKS, bootWords, checkWrites, writeBootDisk } from './switch-writer.js';

const KILLS = Number(process.env.VMAR_SWITCH_KILLS ?? 1);
const SEED = Number(process.env.VMAR_LIVE_SEED ?? Math.floor(Math.random() * 1e6));
const random = seededRandom(SEED);
console.info(`VMAR_LIVE_SEED=${SEED} VMAR_SWITCH_KILLS=${KILLS}`);

const bench = new Bench();
const SOCKET = bench.path('s.sock');
const LOG = bench.path('log');
const WORDS = ['100', '--disk', 'scsi0=t.raw', '--socket', 's.sock', '--qmp', 'machine.qmp'];
const NBD = `driver=nbd,node-name=d0,server.type=unix,server.path=${SOCKET},export=scsi0,reconnect-delay=600`;
const DIRECT = ['-blockdev', NBD, '-device', 'virtio-blk-pci,drive=d0,id=v0,bootindex=2'];
const DRIVE = `file=nbd+unix:///scsi0?socket=${SOCKET},format=raw,file.reconnect-delay=600,if=none,id=d0`;
const NAMELESS = ['-drive', DRIVE, '-device', 'virtio-blk-pci,drive=d0,id=v0,bootindex=2'];

type Moment = (live: LiveProcess, machine: Machine) => Promise<unknown>;

/** As soon as the guest's monitor says so. */
const onEvent =
  (wanted: string): Moment =>
  async (_live, { monitor }) => {
    while (!monitor.events.some(({ event }) => event === wanted)) await delay(1);
  };
const later = (millis: number): Moment => {
  return async (live) => {
    await live.until('done');
    await delay(millis);
  };
};
const MOMENTS: [string, readonly string[], Moment][] = [
  ['when the guest is paused', DIRECT, onEvent('STOP')],
  ['when the guest goes on', DIRECT, onEvent('RESUME')],
  ['when the guest goes on, of -drive', NAMELESS, onEvent('RESUME')],
  ...Array.from({ length: KILLS }, (_, at): [string, readonly string[], Moment] => {
    const millis = random.integer(0, 500);
    return [`${millis} ms after all is restored (${at})`, random.oneIn(2) ? DIRECT : NAMELESS, later(millis)];
  }),
];

describe.skipIf(!haveMachine('kill -9 of a move'))('kill -9 of vma-restore --live --qmp', () => {
  let image: Buffer;
  let live: LiveProcess | undefined;
  let machine: Machine | undefined;

  beforeAll(async () => {
    await bench.json(['init', bench.store]);
    makeImage(bench.path('a.raw'), BLOCKS * BLOCK_BYTES, [{ at: 0, bytes: noise(30) }]);
    image = readFileSync(bench.path('a.raw'));
    await bench.json(['backup', '100', '--disk', 'scsi0=a.raw']);
    writeBootDisk(bench.path('boot.raw'));
  });

  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') console.error(live?.events, machine?.monitor.events);
    await machine?.kill();
    if (live !== undefined && !live.hasEnded) await live.signal('SIGKILL');
    for (const name of ['t.raw', 't.raw.vmar-live', 's.sock']) rmSync(bench.path(name), { force: true });
  });

  it.each(MOMENTS)(
    '%s',
    async (_name, words, moment) => {
      live = new LiveProcess(bench, WORDS);
      await live.until('listening');
      machine = await startMachine(bench.directory, [...bootWords(bench.path('boot.raw'), LOG), ...words]);
      await moment(live, machine);
      await live.signal('SIGKILL');
      const hadState = existsSync(bench.path('t.raw.vmar-live'));
      if (random.oneIn(2)) await delay(random.integer(0, 1000));
      if (hadState) {
        live = new LiveProcess(bench, WORDS);
        await live.until('switched');
        expect(await live.status()).toBe(0);
      }
      expect(existsSync(bench.path('t.raw.vmar-live'))).toBe(false);
      const { nodes, edges } = await guestState(machine.qmp);
      expect(nodes.filter((name) => name.startsWith('vmar') || name === 'd0')).toEqual([]);
      expect(edges.some((edge) => edge.endsWith(' restored-scsi0'))).toBe(true);
      expect(await machine.monitor.ask('query-status')).toMatchObject({ running: true });
      const before = acknowledged(LOG);
      while (acknowledged(LOG) < before + 5) await delay(20);
      await machine.monitor.ask('stop');
      const writes = acknowledged(LOG);
      await machine.kill();
      checkWrites(readFileSync(bench.path('t.raw')), image, writes);
    },
    100_000,
  );
});
