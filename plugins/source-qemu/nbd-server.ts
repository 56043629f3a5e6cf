// SPDX-License-Identifier: MIT
// Where the NBD server listens that a QEMU has already. It has only one, and does not tell; but the kernel knows which
// process has the monitor's socket, and on which other sockets that listens. Sockets of character devices are left alone:
// a connection to another monitor, or to the guest's agent, would be in somebody's way. What listens on the network is
// passed over, for what is exported there could be had by whoever reaches it.

import { readdir, readFile, readlink, stat } from 'node:fs/promises';
import net from 'node:net';
import { resolve } from 'node:path';
import { FailedError } from '../../src/base/errors.js';
import type { Monitor } from '../../src/plugin-api.js';

const MAGIC = Buffer.from('NBDMAGIC', 'latin1');
/** A server greets at once; others wait for ever for what we do not say. */
const GREETING_MILLIS = 2000;
/** Of /proc/net/unix: somebody accepts connections (SO_ACCEPTCON). */
const ACCEPTS = 0x10000;

interface Listener {
  readonly inode: string;
  /** As it was bound: of the process's working directory, if relative. */
  readonly path: string;
}

/** The absolute path of the server's socket. Undefined if it cannot be found, or may not be looked for by this user. */
export async function findNbdServer(monitor: Monitor, monitorPath: string): Promise<string | undefined> {
  const listeners = await listening();
  const pid = await processOf(listeners, monitorPath);
  if (pid === undefined) return undefined;
  const characters = await characterDevices(monitor);
  if (characters === undefined) return undefined;
  const inodes = await socketsOf(pid);
  for (const { inode, path } of listeners) {
    if (!inodes.has(inode) || characters.some((place) => place.startsWith(`unix:${path}`))) continue;
    const absolute = await absoluteOf(pid, path);
    if (absolute !== undefined && (await greets(absolute))) return absolute;
  }
  return undefined;
}

async function listening(): Promise<Listener[]> {
  const text = await readFile('/proc/net/unix', 'utf8').catch(() => '');
  return text.split('\n').flatMap((line) => {
    const words = /^\S+: \S+ \S+ (\S+) \S+ \S+ +(\d+) ([^@].*)$/.exec(line);
    if (words === null) return [];
    const [, flags = '0', inode = '', path = ''] = words;
    return (Number.parseInt(flags, 16) & ACCEPTS) === 0 ? [] : [{ inode, path }];
  });
}

/** The process that listens on a socket, by whatever path it is reached. */
async function processOf(listeners: readonly Listener[], socketPath: string): Promise<string | undefined> {
  const wanted = await stat(socketPath).catch(() => undefined);
  if (wanted === undefined) return undefined;
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const inodes = await socketsOf(pid);
    for (const { inode, path } of listeners) {
      if (!inodes.has(inode)) continue;
      const absolute = await absoluteOf(pid, path);
      const found = absolute === undefined ? undefined : await stat(absolute).catch(() => undefined);
      if (found?.ino === wanted.ino && found.dev === wanted.dev) return pid;
    }
  }
  return undefined;
}

/** None where we may not look, or the process has just ended. */
async function socketsOf(pid: string): Promise<ReadonlySet<string>> {
  const names = await readdir(`/proc/${pid}/fd`).catch(() => []);
  const links = await Promise.all(names.map((name) => readlink(`/proc/${pid}/fd/${name}`).catch(() => '')));
  return new Set(links.flatMap((link) => /^socket:\[(\d+)\]$/.exec(link)?.[1] ?? []));
}

async function absoluteOf(pid: string, path: string): Promise<string | undefined> {
  if (path.startsWith('/')) return path;
  const directory = await readlink(`/proc/${pid}/cwd`).catch(() => undefined);
  return directory === undefined ? undefined : resolve(directory, path);
}

async function characterDevices(monitor: Monitor): Promise<readonly string[] | undefined> {
  try {
    return (await monitor.execute('query-chardev', {})).map(({ place }) => place);
  } catch (error) {
    if (error instanceof FailedError && error.code === 'qmp-command-failed') return undefined;
    throw error;
  }
}

async function greets(path: string): Promise<boolean> {
  return await new Promise((give) => {
    const socket = net.connect(path);
    const end = (isServer: boolean) => {
      clearTimeout(timer);
      socket.destroy();
      give(isServer);
    };
    const timer = setTimeout(() => end(false), GREETING_MILLIS);
    let said = Buffer.alloc(0);
    socket.on('data', (bytes) => {
      said = Buffer.concat([said, bytes]);
      if (said.length >= MAGIC.length) end(said.subarray(0, MAGIC.length).equals(MAGIC));
    });
    socket.on('error', () => end(false));
    socket.on('close', () => end(false));
  });
}
