// SPDX-License-Identifier: MIT
// Which program listens on a Unix socket, as far as this user may know.

import { readdir, readFile, readlink } from 'node:fs/promises';
import { basename, resolve } from 'node:path';

/** By the kernel's flag in /proc/net/unix. */
const LISTENING = 0x10000;

/** Its name, such as "qemu-system-x86" or "nginx"; undefined where nobody says. */
export async function listenerOf(path: string): Promise<string | undefined> {
  try {
    const inodes = await listeningInodes(path);
    return inodes.size === 0 ? undefined : await holderOf(inodes);
  } catch {
    return undefined;
  }
}

/** Whether a program of that name may be a QEMU. */
export function isQemu(program: string): boolean {
  return /qemu|^kvm/i.test(program);
}

async function listeningInodes(path: string): Promise<ReadonlySet<string>> {
  const found = new Set<string>();
  for (const line of (await readFile('/proc/net/unix', 'latin1')).split('\n')) {
    // Num RefCount Protocol Flags Type St Inode Path; what a program bound is told as it named it.
    const match = /^\S+ \S+ \S+ ([0-9A-F]+) \S+ \S+ +(\d+) (.+)$/.exec(line);
    if (match === null || (Number.parseInt(match[1]!, 16) & LISTENING) === 0) continue;
    const bound = match[3]!;
    if (bound === path || resolve(bound) === resolve(path)) found.add(`socket:[${match[2]}]`);
    else if (!bound.startsWith('/') && basename(bound) === basename(path)) found.add(`socket:[${match[2]}]`);
  }
  return found;
}

async function holderOf(inodes: ReadonlySet<string>): Promise<string | undefined> {
  for (const process of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    // Of other users' processes this user may know nothing.
    const files = await readdir(`/proc/${process}/fd`).catch(() => []);
    for (const file of files) {
      const target = await readlink(`/proc/${process}/fd/${file}`).catch(() => '');
      if (inodes.has(target)) return (await readFile(`/proc/${process}/comm`, 'utf8')).trim();
    }
  }
  return undefined;
}
