// SPDX-License-Identifier: MIT
// A small datastore in which everything happened once: several guests, nights, a namespace, notes, protection, imports,
// copies, jobs, prune and gc; with what each backup must restore to.

import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Random, seededRandom } from '../base/random.js';
import type { Bench, Json } from '../cli/bench.js';
import { CLUSTER, makeImage, patch } from '../cli/images.js';

export interface Shape {
  readonly hash: 'blake3' | 'sha256';
  readonly clusterSize: '64KiB' | '256KiB' | '1MiB';
}

export interface HarmWorld {
  readonly store: string;
  readonly cache: string;
  readonly config: string;
  /** The image that the next backup is of. */
  readonly image: string;
  /** As it was halfway: old versions of files. */
  readonly oldStore: string;
  /** By the backup's full name: the digest of each file of its restore. */
  readonly truth: ReadonlyMap<string, ReadonlyMap<string, string>>;
}

/** 2026-11-01, 01:00 UTC */
const FIRST_NIGHT = 1793494800;
const NIGHT = 86400;

type Run = (...words: string[]) => Promise<Json>;

/** `nights`: 1 for a short one, without most of what else happens. */
export async function makeHarmWorld(bench: Bench, shape: Shape, seed: number, nights: number): Promise<HarmWorld> {
  const at = (...names: string[]) => bench.path(`world-${shape.hash}`, ...names);
  mkdirSync(at());
  const [store, cache, config, oldStore] = [at('store'), at('cache'), at('vmar.yaml'), at('old')];
  const env = { VMAR_DATASTORE: store, VMAR_CACHE_DIR: cache };
  const run: Run = async (...words) => await bench.json(words, { env });
  const random = seededRandom(seed);
  writeFileSync(at('a.conf'), 'name: a\n');
  const [a, b, c] = [
    imageOf(random, at('a.raw'), 20, 77),
    imageOf(random, at('b.raw'), 6, 512),
    imageOf(random, at('c.raw'), 14, 0),
  ];
  await run('init', store, '--hash', shape.hash, '--cluster-size', shape.clusterSize);
  for (let night = 0; night < nights; night++) {
    const time = ['--time', `${FIRST_NIGHT + night * NIGHT}`];
    await run('backup', '100', ...time, '--disk', `scsi0=${a}`, '--disk', `scsi1=${b}`, '--config', at('a.conf'));
    await run('backup', '101', ...time, '--disk', `scsi0=${c}`);
    change(random, a, 20);
    change(random, c, 14);
    if (night === 0) cpSync(store, oldStore, { recursive: true });
  }
  await run('protect', '101');
  writeFileSync(config, jobConfig(store, c), { mode: 0o600 });
  if (nights > 1) await keepHouse(run, at, a, config);
  await run('verify');
  const truth = new Map<string, Map<string, string>>();
  for (const { backup } of (await run('list')).backups) {
    await run('restore', backup, '--to', at('truth', backup));
    truth.set(backup, digestsIn(at('truth', backup)));
  }
  return { store, cache, config, image: a, oldStore, truth };
}

async function keepHouse(run: Run, at: (name: string) => string, image: string, config: string): Promise<void> {
  await run('backup', 'office/vm/7', '--time', `${FIRST_NIGHT}`, '--disk', `disk=${image}`);
  await run('export', '100/latest', '--output', at('archive.vma'));
  await run('import', at('archive.vma'), '--guest', '200');
  await run('init', at('second'));
  await run('copy', 'office/vm/7', '--to', at('second'));
  await run('notes', '101', '--set', 'something to know');
  await run('prune', '--keep-last', '2');
  await run('job', 'run', 'nightly', '--config-file', config);
  await run('gc', '--max-unused', '0%');
}

/** Random clusters, one that comes again and again, holes. */
function imageOf(random: Random, path: string, clusters: number, tailBytes: number): string {
  const often = random.bytes(CLUSTER);
  const numbers = Array.from({ length: clusters }, (_, n) => n).filter(() => !random.oneIn(3));
  const stretches = numbers.map((n) => ({
    at: n * CLUSTER,
    bytes: random.oneIn(4) ? often : random.bytes(CLUSTER - random.integer(0, 99)),
  }));
  return makeImage(path, clusters * CLUSTER + tailBytes, stretches);
}

function change(random: Random, path: string, clusters: number): void {
  for (let i = 0; i < 3; i++) patch(path, random.integer(0, clusters - 1) * CLUSTER, random.bytes(5000));
}

function jobConfig(store: string, image: string): string {
  return `datastores:
  main: ${store}
guests:
  "101":
    disks:
      scsi0: ${image}
jobs:
  nightly:
    guests: ["101"]
    datastore: main
    schedule: "02:00"
`;
}

/** The digest of each file in a directory. */
export function digestsIn(directory: string): Map<string, string> {
  if (!existsSync(directory)) return new Map();
  const files = readdirSync(directory, { withFileTypes: true }).filter((entry) => entry.isFile());
  return new Map(files.map(({ name }) => [name, digestOf(join(directory, name))]));
}

export function digestOf(path: string): string {
  return createHash('sha1').update(readFileSync(path)).digest('hex');
}
