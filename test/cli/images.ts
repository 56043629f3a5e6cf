// SPDX-License-Identifier: MIT
// Small disk images.

import { randomBytes } from 'node:crypto';
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { ofdQueryLock } from '#vmar/src/base/syscalls.js';
import type { Finished, Running } from './bench.js';

export const CLUSTER = 65536;

export interface Stretch {
  readonly at: number;
  readonly bytes: Uint8Array;
}

/** A sparse image of that length with something in it; its end need not be that of a cluster. */
export function makeImage(path: string, length: number, stretches: readonly Stretch[] = []): string {
  const fd = openSync(path, 'w');
  ftruncateSync(fd, length);
  for (const { at, bytes } of stretches) writeSync(fd, bytes, 0, bytes.byteLength, at);
  closeSync(fd);
  return path;
}

/** Changes bytes of a file in place. */
export function patch(path: string, at: number, bytes: Uint8Array): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, bytes, 0, bytes.byteLength, at);
  closeSync(fd);
}

/** A cluster that nothing else holds. */
export function noise(clusters = 1): Uint8Array {
  return randomBytes(clusters * CLUSTER);
}

/** Ten clusters and a bit: noise, zeros, text, a hole, and a short end. */
export function mixedImage(path: string): string {
  const text = Buffer.alloc(2 * CLUSTER, 'vmar backs up the disks of virtual machines. ');
  return makeImage(path, 10 * CLUSTER + 1234, [
    { at: 0, bytes: noise(2) },
    { at: 3 * CLUSTER, bytes: Buffer.alloc(CLUSTER) },
    { at: 4 * CLUSTER, bytes: text },
    { at: 10 * CLUSTER, bytes: randomBytes(1234) },
  ]);
}

/** Resolves once a process that was started has its reader's locks on the image. */
export async function untilLocked(path: string, { finished }: Running): Promise<void> {
  const fd = openSync(path, 'r+');
  let ended: Finished | undefined;
  void finished.then((result) => {
    ended = result;
  });
  try {
    while (ofdQueryLock(fd, 'write', 201, 1)) {
      if (ended !== undefined) throw new Error(`it ended too soon: ${ended.text}${ended.stderr}`);
      await delay(10);
    }
  } finally {
    closeSync(fd);
  }
}
