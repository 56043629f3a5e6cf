// SPDX-License-Identifier: MIT
// Whatever becomes of any file of a datastore or of its cache: no command gives wrong bytes, hangs, crashes or takes the
// machine's memory; what is not touched can be restored; verify finds what is, then and later; the next backup is whole or
// refused. VMAR_HARM_ROUNDS says how many rounds (20 s each), VMAR_HARM_SEED from which seed (a random one, but 1 without
// VMAR_HARM_ROUNDS); VMAR_HARM_KIND and
// VMAR_HARM_FILE (a part of its path) choose the harm.

import { join, relative } from 'node:path';
import { expect, it } from 'vitest';
import { type Random, seededRandom } from '../base/random.js';
import { Bench, type Json } from '../cli/bench.js';
import { digestOf, type HarmWorld, makeHarmWorld, type Shape } from './harm-world.js';
import { filesBelow, HARMS, type Harm, harm, putBack, relativesOf } from './harms.js';
import type { Judged } from './judged-run.js';
import { readOtherwise } from './readings.js';
import { Round } from './round.js';

const { VMAR_HARM_ROUNDS, VMAR_HARM_SEED, VMAR_HARM_KIND, VMAR_HARM_FILE } = process.env;
const ROUNDS = Number(VMAR_HARM_ROUNDS ?? 1);
const IS_SHORT = VMAR_HARM_ROUNDS === undefined;
const SEED = Number(VMAR_HARM_SEED ?? (IS_SHORT ? 1 : Math.floor(Math.random() * 2 ** 31)));
const NIGHTS = IS_SHORT ? 1 : 3;
const SHAPES: readonly Shape[] = [
  { hash: 'blake3', clusterSize: '64KiB' },
  { hash: 'sha256', clusterSize: '256KiB' },
];
const AREAS = ['store/packs', 'store/packs', 'store/manifests', 'store/state', 'store/locks', 'store/data', 'cache'];
const bench = new Bench();

function doHarm(round: Round, random: Random): { path: string; done: Harm } {
  const files = filesBelow(round.root);
  const area = AREAS[random.integer(0, AREAS.length - 1)]!;
  const choice = files.filter((file) =>
    VMAR_HARM_FILE === undefined ? relative(round.root, file).startsWith(area) : file.includes(VMAR_HARM_FILE),
  );
  const path = choice[random.integer(0, choice.length - 1)]!;
  const kind = VMAR_HARM_KIND ?? HARMS[random.integer(0, HARMS.length - 1)]!;
  if (VMAR_HARM_KIND === undefined && area !== 'cache' && random.oneIn(12)) {
    return { path, done: putBack(path, round.store, round.world.oldStore) };
  }
  return { path, done: harm(kind, path, round.root, random, relativesOf(path, files)) };
}

const documentOf = ({ text }: Judged): Json => (text.startsWith('{') ? JSON.parse(text) : {});

/** The backups that verify names. */
function touchedIn(result: Judged): Set<string> {
  return new Set((documentOf(result).damage ?? []).flatMap((entry: Json) => entry.backups));
}

class Trial {
  readonly #round: Round;
  readonly #path: string;
  readonly #random: Random;
  readonly #backups: readonly string[];
  /** By the damage that verify found at first. */
  #touched = new Set<string>();

  constructor(round: Round, path: string, random: Random) {
    this.#round = round;
    this.#path = path;
    this.#random = random;
    this.#backups = [...round.world.truth.keys()];
  }

  #some(): string {
    return this.#backups[this.#random.integer(0, this.#backups.length - 1)]!;
  }

  /** Whether its not being there to be restored is explained. */
  #isExcused(backup: string): boolean {
    const own = /manifests\/(.+)\.(manifest|sidecar)/.exec(this.#path)?.[1];
    return this.#path.endsWith('datastore.pb') || backup === own || this.#touched.has(backup);
  }

  async verify(isFlip: boolean): Promise<void> {
    const result = await this.#round.run('--json', 'verify');
    this.#touched = touchedIn(result);
    const { damage, error } = documentOf(result);
    const isNamed = damage?.some((entry: Json) => this.#path.endsWith(entry.file)) || error?.object === this.#path;
    if (isFlip && (result.status !== 3 || !isNamed)) this.#round.find(['verify'], 'does not find it', result);
  }

  async look(): Promise<void> {
    const looks = [
      ['list'],
      ['--json', 'list'],
      ['status'],
      ['stats'],
      ['verify', '--quick'],
      ['verify', '--older-than', '1d', '--budget', '1m'],
      ['verify', '--portable', this.#some()],
      ['show', this.#some()],
      ['diff', this.#backups[0]!, this.#backups[1]!],
      ['report', '--html', this.#round.out()],
      ['gc', '--dry-run'],
      ['prune', '--keep-last', '1', '--dry-run'],
      ['drill', this.#some(), '--fsck'],
    ];
    for (let n = IS_SHORT ? 1 : 4; n > 0; n--) {
      await this.#round.run(...looks.splice(this.#random.integer(0, looks.length - 1), 1)[0]!);
    }
  }

  async restoreAll(): Promise<void> {
    for (const backup of this.#backups) {
      const works = await this.#round.restore(backup);
      if (!works && !this.#isExcused(backup)) this.#round.find(['restore', backup], 'cannot be restored, undamaged');
    }
    if (!IS_SHORT) await readOtherwise(this.#round, this.#some(), this.#random);
  }

  /** The next nights, and housekeeping. */
  async write(): Promise<void> {
    const { image } = this.#round.world;
    for (const guest of IS_SHORT ? ['100'] : ['100', '101', '200']) {
      const words = ['--json', 'backup', guest, '--disk', `scsi0=${image}`];
      const result = await this.#round.run(...words);
      if (result.status !== 0) continue;
      const to = this.#round.out();
      const restored = await this.#round.run('restore', result.json().backup, '--to', to);
      if (restored.status !== 0) this.#round.find(words, 'cannot be restored', restored);
      else if (digestOf(join(to, 'scsi0.raw')) !== digestOf(image)) this.#round.find(words, 'WRONG BYTES', restored);
    }
    const chores = [['gc', '--max-unused', '0%'], ['gc'], ['protect', '100'], ['notes', '101', '--set', 'more']];
    for (let n = IS_SHORT ? 1 : 3; n > 0; n--) {
      await this.#round.run(...chores[this.#random.integer(0, chores.length - 1)]!);
    }
  }

  async later(): Promise<void> {
    const verified = await this.#round.run('--json', 'verify');
    for (const backup of this.#backups) {
      if ((await this.#round.restore(backup)) || this.#isExcused(backup)) continue;
      this.#round.find(['restore', backup], 'is lost since', verified);
    }
  }
}

async function play(world: HarmWorld, number: number, random: Random): Promise<string[]> {
  const round = new Round(bench, world, `round${number}`);
  const { path, done } = doHarm(round, random);
  try {
    const trial = new Trial(round, path, random);
    await trial.verify(done.isFlip && !/\/(locks|tmp|cache)\//.test(path));
    await trial.look();
    await trial.restoreAll();
    await trial.write();
    await trial.later();
  } finally {
    done.stop();
    round.remove();
  }
  return round.findings.map((finding) => `[round ${number}, ${done.what}] ${finding}`);
}

it(
  `holds for ${ROUNDS} rounds from VMAR_HARM_SEED=${SEED}`,
  async () => {
    const worlds = new Map<Shape, HarmWorld>();
    const findings: string[] = [];
    for (let number = 0; number < ROUNDS; number++) {
      const shape = SHAPES[(SEED + number) % SHAPES.length]!;
      const world = worlds.get(shape) ?? (await makeHarmWorld(bench, shape, SEED, NIGHTS));
      worlds.set(shape, world);
      findings.push(...(await play(world, number, seededRandom(SEED + number))));
    }
    expect(findings).toEqual([]);
  },
  ROUNDS * 300_000,
);
