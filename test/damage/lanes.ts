// SPDX-License-Identifier: MIT
// Copies of one small datastore, damaged and verified side by side: verify waits for the disk most of its time.

import { closeSync, cpSync, openSync, readFileSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join, relative } from 'node:path';
import type { VerifyReport } from '#vmar/src/archive/verify/damage.js';
import { World } from '../archive/world.js';

export interface Lane {
  readonly world: World;
  /** The file of the copy that stands for one of the original. */
  here(file: string): string;
  /** The file of the original that stands for one of the copy. */
  there(file: string): string;
}

function makeLane(original: World, base: string): Lane {
  const world = World.at(base, original.options);
  cpSync(original.root, world.root, { recursive: true });
  return {
    world,
    here: (file) => join(world.root, relative(original.root, file)),
    there: (file) => join(original.root, relative(world.root, file)),
  };
}

const LANES = 6;

/**
 * Does each task in some copy, in no order; a task leaves its copy as it found it.
 * @returns what the tasks complain of.
 */
export async function inLanes<Task>(
  original: World,
  base: string,
  tasks: readonly Task[],
  work: (lane: Lane, task: Task) => Promise<string | undefined>,
  lanes: number = LANES,
): Promise<string[]> {
  const queue = [...tasks];
  const complaints: string[] = [];
  const run = async (number: number): Promise<void> => {
    const lane = makeLane(original, join(base, `lane${number}`));
    const { damage } = await lane.world.verify();
    if (damage.length > 0) complaints.push(`the copy is not clean: ${damage[0]!.problem}`);
    for (let task = queue.shift(); task !== undefined; task = queue.shift()) {
      const complaint = await work(lane, task);
      if (complaint !== undefined) complaints.push(complaint);
    }
  };
  await Promise.all(Array.from({ length: lanes }, (_, number) => run(number)));
  return complaints;
}

/** Runs an action while the byte at an offset is another one. */
export async function whileFlipped<Result>(
  file: string,
  offset: number,
  mask: number,
  action: () => Promise<Result>,
): Promise<Result> {
  const byte = readFileSync(file)[offset]!;
  putByte(file, offset, byte ^ mask);
  try {
    return await action();
  } finally {
    putByte(file, offset, byte);
  }
}

function putByte(file: string, offset: number, byte: number): void {
  const fd = openSync(file, 'r+');
  writeSync(fd, Uint8Array.of(byte), 0, 1, offset);
  closeSync(fd);
}

/** Runs an action while the file holds something else. */
export async function whileHolding<Result>(
  file: string,
  bytes: Uint8Array,
  action: () => Promise<Result>,
): Promise<Result> {
  const before = readFileSync(file);
  writeFileSync(file, bytes);
  try {
    return await action();
  } finally {
    writeFileSync(file, before);
    truncateSync(file, before.length);
  }
}

/** A report in a few words, for complaints. */
export function inWords(report: VerifyReport): string {
  return JSON.stringify(
    report.damage.map(({ file, offsetBytes, lengthBytes, kind, problem, backups, disks }) => {
      return [file.slice(-12), offsetBytes, lengthBytes, kind, problem, [...backups].sort(), [...disks].sort()];
    }),
  );
}
