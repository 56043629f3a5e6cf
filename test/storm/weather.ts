// SPDX-License-Identifier: MIT
// What happens to processes and to caches while they are at work.

import { existsSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Random } from '../base/random.js';
import type { Running } from '../cli/bench.js';

export type Blow = 'none' | 'SIGKILL' | 'SIGTERM' | 'stopped';

/** Whatever comes over a process, at a random moment. */
export async function blowOn({ child, finished }: Running, random: Random): Promise<Blow> {
  const kinds: readonly Blow[] = ['none', 'none', 'none', 'none', 'none', 'SIGKILL', 'SIGKILL', 'SIGTERM', 'stopped'];
  const kind = kinds[random.integer(0, kinds.length - 1)]!;
  const whenMillis = random.integer(50, random.oneIn(3) ? 4000 : 1200);
  const lastsMillis = random.integer(100, 2500);
  if (kind === 'none') return kind;
  const hasEnded = await Promise.race([finished.then(() => true), delay(whenMillis, false)]);
  if (hasEnded) return 'none';
  if (kind !== 'stopped') {
    child.kill(kind);
    return kind;
  }
  child.kill('SIGSTOP');
  await delay(lastsMillis);
  child.kill('SIGCONT');
  return kind;
}

/** The cache of one host, which may be taken away or spoilt at any time. */
export class HostCache {
  /** Whether what LMDB maps was cut or changed: that ends whoever touches it, until the files are made anew. */
  isSpoilt = false;

  constructor(readonly path: string) {}

  spoil(random: Random): string {
    if (!existsSync(this.path)) return 'no cache';
    if (random.oneIn(2)) {
      this.isSpoilt = true;
      rmSync(this.path, { recursive: true, force: true, maxRetries: 5 });
      return 'cache removed';
    }
    const files = readdirSync(this.path, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name));
    if (files.length === 0) return 'no cache';
    this.isSpoilt = true;
    return this.#spoilFile(files[random.integer(0, files.length - 1)]!, random);
  }

  #spoilFile(path: string, random: Random): string {
    try {
      const { size } = statSync(path);
      if (size === 0) return 'cache as it was';
      if (random.oneIn(2)) {
        truncateSync(path, random.integer(0, size - 1));
        return 'cache cut';
      }
      const bytes = readFileSync(path);
      for (let n = 0; n < 20; n++) bytes[random.integer(0, bytes.length - 1)]! ^= 1 << random.integer(0, 7);
      writeFileSync(path, bytes);
      return 'cache flipped';
    } catch {
      // Gone meanwhile.
      return 'cache as it was';
    }
  }
}
