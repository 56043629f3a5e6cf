// SPDX-License-Identifier: MIT
// Other ways to the bytes of a backup than restore: over NBD, live, through archives, through a copy.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Random } from '../base/random.js';
import { trial } from '../cli/serving.js';
import { digestOf, digestsIn } from './harm-world.js';
import type { Round } from './round.js';

/** A live restore stays where something is damaged: a guest may heal it. */
const LIVE_MILLIS = 8000;

interface Disk {
  readonly backup: string;
  readonly name: string;
  readonly others: readonly string[];
  readonly digest: string | undefined;
}

const WAYS = [serveIt, restoreLive, exportIt, copyAll];

/** What is read in a way that the random numbers choose must be right, or refused. */
export async function readOtherwise(round: Round, backup: string, random: Random): Promise<void> {
  const files = round.world.truth.get(backup) ?? new Map<string, string>();
  const names = [...files.keys()].filter((name) => name.endsWith('.raw')).map((name) => name.slice(0, -4));
  const name = names[random.integer(0, names.length - 1)] ?? '';
  const others = names.filter((other) => other !== name);
  const way = WAYS[random.integer(0, WAYS.length - 1)] ?? exportIt;
  await way(round, { backup, name, others, digest: files.get(`${name}.raw`) }, random);
}

async function serveIt(round: Round, { backup, name, digest }: Disk): Promise<void> {
  const [socket, to] = [join(round.root, 's.sock'), round.out()];
  const words = ['--json', 'serve', backup, '--socket', socket, '--disk', name];
  const running = round.start(words);
  const ended = running.finished.then(() => 'ended');
  const first = await Promise.race([ended, new Promise((resolve) => running.child.stdout?.once('data', resolve))]);
  const uri = `nbd+unix:///${name}?socket=${socket}`;
  const said = first === 'ended' ? 'nothing' : await trial('timeout', '60', 'nbdcopy', uri, to);
  running.child.kill('SIGTERM');
  const result = await round.end(words, running);
  if (said === '' && existsSync(to) && digestOf(to) !== digest) round.find(words, 'WRONG BYTES', result);
}

async function restoreLive(round: Round, { backup, name, others, digest }: Disk): Promise<void> {
  const to = round.out();
  const skipped = others.flatMap((other) => ['--skip', other]);
  const target = ['--disk', `${name}=${to}`, '--socket', join(round.root, 's.sock')];
  const words = ['--live', backup, ...target, ...skipped, '--exit-when-done'];
  const running = round.start(words, 'vma-restore');
  const timer = setTimeout(() => running.child.kill('SIGTERM'), LIVE_MILLIS);
  const result = await round.end(words, running);
  clearTimeout(timer);
  if (result.status === 0 && digestOf(to) !== digest) round.find(words, 'WRONG BYTES', result);
}

async function exportIt(round: Round, { backup, name, digest }: Disk, random: Random): Promise<void> {
  const format = ['vmar', 'vma', 'tar'][random.integer(0, 2)];
  const [file, store, to] = [`${round.out()}.${format}`, round.out(), round.out()];
  if ((await round.run('export', backup, '--output', file)).status !== 0) return;
  for (const words of [
    ['init', store],
    ['--datastore', store, 'import', file, '--guest', '300'],
    ['--datastore', store, 'restore', '300', '--to', to],
  ]) {
    const result = await round.run(...words);
    if (result.status !== 0) return round.find(words, 'what was exported is not taken', result);
  }
  const found = digestsIn(to);
  const isSame = found.get(`${name}.raw`) === digest || found.get(`drive-${name}.raw`) === digest;
  if (!isSame) round.find(['import', file], 'WRONG BYTES');
}

async function copyAll(round: Round): Promise<void> {
  const store = round.out();
  if ((await round.run('init', store)).status !== 0) return;
  await round.run('copy', '--all', '--to', store);
  const verified = await round.run('--datastore', store, 'verify');
  if (verified.status !== 0) round.find(['copy', '--all'], 'what was copied is damaged', verified);
  const listed = await round.run('--datastore', store, '--json', 'list');
  for (const { backup } of listed.json().backups.slice(0, 3)) {
    if (!(await round.restore(backup, store)))
      round.find(['copy', '--all'], `${backup} was copied, and cannot be restored`);
  }
}
