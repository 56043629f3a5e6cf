// SPDX-License-Identifier: MIT
// kill -9 at random moments, through the real command line. VMAR_KILL_ROUNDS=1000 makes a long campaign of it, and
// VMAR_KILL_SEED repeats one.

import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { seededRandom } from '../base/random.js';
import { Bench, type Running } from '../cli/bench.js';
import { ChangingImage, fileHolds } from './changing-image.js';

const ROUNDS = Number(process.env.VMAR_KILL_ROUNDS ?? 16);
const SEED = Number(process.env.VMAR_KILL_SEED ?? Math.floor(Math.random() * 2 ** 31));
const random = seededRandom(SEED);
console.info(`VMAR_KILL_SEED=${SEED} VMAR_KILL_ROUNDS=${ROUNDS}`);

const MINUTES = 60_000;
/** Of a round, on a machine that has other things to do. */
const ROUND_MILLIS = 20_000;

/** Kills it after so long, unless it has ended; true if it was killed. */
async function killAfter({ child, finished }: Running, millis: number): Promise<boolean> {
  const ended = await Promise.race([finished.then(() => true), delay(millis, false)]);
  if (!ended) child.kill('SIGKILL');
  const { status, stderr } = await finished;
  if (child.signalCode !== 'SIGKILL') expect(status, stderr).toBe(0);
  return child.signalCode === 'SIGKILL';
}

/**
 * Sends a signal that can be caught, and waits for the end: 130, or 0 if the work was done. Who is about to leave has put
 * its handlers away already; to die then is to be done too.
 */
async function interrupt({ child, finished }: Running, signal: NodeJS.Signals): Promise<0 | 130> {
  child.kill(signal);
  const { status, stderr } = await finished;
  if (status === null) expect(child.signalCode, stderr).toBe(signal);
  else expect([0, 130], stderr).toContain(status);
  return status === 130 ? 130 : 0;
}

/** Waits for something, as long as it runs. */
async function whileRunning({ finished }: Running, isThere: () => boolean): Promise<void> {
  let hasEnded = false;
  void finished.then(() => {
    hasEnded = true;
  });
  while (!hasEnded && !isThere()) await delay(5);
}

const sessionsIn = (bench: Bench): string[] =>
  readdirSync(bench.path('store', 'locks')).filter((name) => name.startsWith('session'));
const leftIn = (bench: Bench): string[] => [...readdirSync(bench.path('store', 'tmp')), ...sessionsIn(bench)];

/** Backups of a guest that are known to be there, each with what it holds. */
class Guest {
  readonly image: ChangingImage;
  /** The last backup that is known to be there. */
  #last: { id: string; content: Buffer } | undefined;
  #count = 0;
  completed = 0;

  constructor(
    readonly bench: Bench,
    readonly id: string,
    sizeMib: number,
  ) {
    this.image = new ChangingImage(bench.directory, `${id}.raw`, sizeMib, random);
  }

  get backupWords(): string[] {
    return ['backup', this.id, '--disk', `d=${this.id}.raw`];
  }

  /** After a backup was tried: whether it is there is for the datastore to say, but it is whole or not there. */
  async look(mustBeThere: boolean): Promise<void> {
    const { backups } = await this.bench.json(['list']);
    const mine = backups.filter(({ backup }: { backup: string }) => backup.startsWith(`vm/${this.id}/`));
    expect([this.#count, this.#count + 1]).toContain(mine.length);
    if (mustBeThere) expect(mine.length).toBe(this.#count + 1);
    if (mine.length > this.#count) {
      this.#count++;
      this.completed++;
      this.#last = { id: mine.at(-1).backup, content: Buffer.from(this.image.content) };
    }
    if (this.#last === undefined) return;
    const target = `${this.id}-restored.raw`;
    await this.bench.json(['restore', this.#last.id, '--disk', `d=${target}`]);
    expect(fileHolds(this.bench.path(target), this.#last.content), `${this.#last.id} restores as it was`).toBe(true);
    rmSync(this.bench.path(target));
  }
}

async function expectVerifies(bench: Bench): Promise<void> {
  expect(await bench.json(['verify'])).toMatchObject({ ok: true, damage: [] });
}

/** Starts a backup; resolves when its session has begun, or it has ended. */
async function startBackup(guest: Guest): Promise<Running> {
  const { bench } = guest;
  const before = new Set(sessionsIn(bench));
  const running = bench.start(guest.backupWords);
  await whileRunning(running, () => sessionsIn(bench).some((name) => !before.has(name)));
  return running;
}

/** Makes the guest's first backups; tells how long the session of one of few changes takes here, in milliseconds. */
async function beginBackups(guest: Guest): Promise<number> {
  await guest.bench.json(guest.backupWords);
  await guest.look(true);
  guest.image.change();
  const { finished } = await startBackup(guest);
  const begun = performance.now();
  expect((await finished).status).toBe(0);
  const millis = performance.now() - begun;
  await guest.look(true);
  return millis;
}

/** Starts a backup and kills it: mostly when it has begun its session, at times while it still loads its code. */
async function backUpAndKill(guest: Guest, sessionMillis: number): Promise<boolean> {
  if (random.oneIn(8)) return await killAfter(guest.bench.start(guest.backupWords), random.integer(0, 300));
  return await killAfter(await startBackup(guest), random.integer(0, sessionMillis * 1.1));
}

describe('kill -9', () => {
  it(
    'of backups costs none that was made',
    async () => {
      const bench = new Bench();
      await bench.json(['init', bench.store]);
      const guest = new Guest(bench, '100', 64);
      let sessionMillis = await beginBackups(guest);
      let killed = 0;
      let inTheMiddle = 0;
      for (let round = 0; round < ROUNDS; round++) {
        guest.image.change();
        const wasKilled = await backUpAndKill(guest, sessionMillis);
        if (wasKilled) killed++;
        // The machine may be slower or faster now than when this was measured.
        sessionMillis *= wasKilled ? 1.1 : 0.8;
        if (wasKilled && leftIn(bench).length > 0) inTheMiddle++;
        await Promise.all([guest.look(!wasKilled), expectVerifies(bench)]);
      }
      guest.image.change();
      await bench.json(guest.backupWords);
      expect(leftIn(bench)).toEqual([]);
      await guest.look(true);
      console.info(
        `${ROUNDS} rounds: ${killed} killed, ${inTheMiddle} with a session open; ${guest.completed} backups`,
      );
      expect(inTheMiddle).toBeGreaterThan(1);
      expect(guest.completed).toBeGreaterThan(0);
    },
    5 * MINUTES + ROUNDS * ROUND_MILLIS,
  );

  it(
    'of two backups at once costs neither guest anything',
    async () => {
      const bench = new Bench();
      await bench.json(['init', bench.store]);
      const guests = [new Guest(bench, 'left', 16), new Guest(bench, 'right', 16)] as const;
      const sessionMillis = (await beginBackups(guests[0])) + (await beginBackups(guests[1]));
      for (let round = 0; round < ROUNDS / 8; round++) {
        const killed = await Promise.all(
          guests.map(async (guest) => {
            guest.image.change();
            return await backUpAndKill(guest, sessionMillis);
          }),
        );
        await expectVerifies(bench);
        await Promise.all(guests.map(async (guest, at) => await guest.look(!killed[at])));
      }
      for (const guest of guests) await bench.json(guest.backupWords);
      expect(leftIn(bench)).toEqual([]);
    },
    2 * MINUTES + ROUNDS * ROUND_MILLIS,
  );
});

describe('a restore that is cut off', () => {
  const bench = new Bench();
  let guest: Guest;

  beforeAll(async () => {
    await bench.json(['init', bench.store]);
    guest = new Guest(bench, '100', 32);
    await bench.json(guest.backupWords);
  });

  const partials = (directory: string): string[] =>
    (existsSync(directory) ? readdirSync(directory) : []).filter((name) => name.endsWith('.partial'));

  it(
    "by kill -9 never looks like one that was finished, and is in nobody's way",
    async () => {
      const directory = bench.path('killed');
      let cutOff = 0;
      for (let round = 0; round < 4; round++) {
        const running = bench.start(['restore', '100', '--to', directory]);
        await whileRunning(running, () => partials(directory).length > 0);
        if (await killAfter(running, random.integer(0, 60))) {
          if (partials(directory).length > 0) cutOff++;
        }
        if (!existsSync(join(directory, 'd.raw'))) await bench.json(['restore', '100', '--to', directory]);
        expect(readdirSync(directory)).toEqual(['d.raw']);
        expect(fileHolds(join(directory, 'd.raw'), guest.image.content)).toBe(true);
        rmSync(directory, { recursive: true });
      }
      expect(cutOff).toBeGreaterThan(0);
      await expectVerifies(bench);
      expect(leftIn(bench)).toEqual([]);
    },
    2 * MINUTES,
  );

  it.each(['SIGINT', 'SIGTERM'] as const)(
    'by %s leaves nothing, or is finished',
    async (signal) => {
      for (let round = 0; round < 2; round++) {
        const directory = bench.path(signal);
        const running = bench.start(['restore', '100', '--to', directory]);
        await whileRunning(running, () => partials(directory).length > 0);
        const status = await interrupt(running, signal);
        expect(existsSync(directory)).toBe(status === 0);
        if (status === 0) expect(fileHolds(join(directory, 'd.raw'), guest.image.content)).toBe(true);
        rmSync(directory, { recursive: true, force: true });
        expect(leftIn(bench)).toEqual([]);
      }
    },
    2 * MINUTES,
  );
});

describe.each(['SIGINT', 'SIGTERM'] as const)('%s at any moment of a backup', (signal) => {
  it(
    'ends it with 130 and leaves nothing in tmp/, or it is done',
    async () => {
      const bench = new Bench();
      await bench.json(['init', bench.store]);
      const guest = new Guest(bench, '100', 16);
      const sessionMillis = await beginBackups(guest);
      for (let round = 0; round < 3; round++) {
        guest.image.change();
        const running = await startBackup(guest);
        await Promise.race([running.finished, delay(random.integer(0, sessionMillis))]);
        const status = await interrupt(running, signal);
        expect(leftIn(bench)).toEqual([]);
        await guest.look(status === 0);
      }
      await expectVerifies(bench);
    },
    2 * MINUTES,
  );
});
