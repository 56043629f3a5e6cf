// SPDX-License-Identifier: MIT
// vmar serve

import { availableParallelism } from 'node:os';
import { type BackupDisk, openBackupDisk } from '../../archive/backup-disk.js';
import { findDisk } from '../../archive/find-disk.js';
import { EXIT, type ExitStatus } from '../../base/errors.js';
import { NbdServer } from '../../nbd/server/nbd-server.js';
import { readPskFile } from '../../nbd/tls-psk.js';
import { createExecutor } from '../../pipeline/executor.js';
import type { Context } from '../context.js';
import { humanSize } from '../human.js';
import { type ListenFlags, type ListenWish, parseListen, socketUri, type TcpPlace, tcpUri } from '../listen-wish.js';
import { type OpenBackup, withBackups } from '../open-named-backup.js';
import { parseWorkers } from '../parse-count.js';
import { checkDiskName } from '../parse-disk.js';
import { refuseDuplicates } from '../parse-pair.js';
import { printable } from '../printable.js';
import { renderTable } from '../table.js';

export interface ServeFlags extends ListenFlags {
  readonly disk?: readonly string[];
  readonly exitWhenIdle?: boolean;
  readonly exitWithParent?: boolean;
  readonly workers?: string;
}

/** With the cache of frames and the threads below 400 MB. */
const LIMITS = { bytesPerServer: 128 << 20, bytesPerConnection: 48 << 20 };

export async function run(context: Context, name: string, flags: ServeFlags): Promise<ExitStatus> {
  const wish = parseListen(flags);
  const names = flags.disk ?? [];
  for (const disk of names) checkDiskName(disk, '--disk');
  const workers = parseWorkers(flags.workers).workers ?? availableParallelism();
  return await withBackups(context, [name], async ([backup]) => {
    const disks = await openDisks(context, backup!, names, workers);
    try {
      const { exitWhenIdle = false, exitWithParent = false } = flags;
      return await serve(context, backup!, disks.disks, { wish, exitWhenIdle, exitWithParent });
    } finally {
      await disks.close();
    }
  });
}

/** Those that were named, else all, with threads to read them. */
async function openDisks(context: Context, backup: OpenBackup, names: readonly string[], workers: number) {
  const { manifest } = backup;
  // Blobs are no disks; they are offered to who names them.
  const all = manifest.disks.filter(({ kind }) => kind !== 'blob');
  const chosen = (names.length === 0 ? all : names.map((name) => findDisk(manifest, name))).map(({ name }) => name);
  refuseDuplicates(chosen, '--disk', 'disk');
  const { hash } = manifest;
  const executor = createExecutor({ workers, hash, level: 1, clusterSizeBytes: 0, pools: [] });
  executor.warmUp();
  const options = { executor, log: context.log };
  const disks = await Promise.all(chosen.map((name) => openBackupDisk(backup, name, options)));
  const close = async (): Promise<void> => {
    for (const disk of disks) await disk.close();
    await executor.close();
  };
  return { disks, close };
}

interface ServeOptions {
  readonly wish: ListenWish;
  readonly exitWhenIdle: boolean;
  readonly exitWithParent: boolean;
}

/** Until a signal comes or, if that was asked for, the last client has left or standard input is closed. */
async function serve(
  context: Context,
  backup: OpenBackup,
  disks: readonly BackupDisk[],
  { wish, exitWhenIdle, exitWithParent }: ServeOptions,
): Promise<ExitStatus> {
  const exports = disks.map((device) => {
    return { name: device.disk.name, description: `${device.disk.name} of ${backup.name}`, device, readOnly: true };
  });
  const server = new NbdServer({ exports, limits: LIMITS, log: context.log });
  let end: (status: ExitStatus) => void = () => {};
  const ended = new Promise<ExitStatus>((resolve) => {
    end = resolve;
  });
  server.onClient = (event, count, exportName) => {
    context.log.debug(`a client ${event === 'connected' ? 'reads' : 'left'} ${exportName}; there are ${count}`);
    if (exitWhenIdle && event === 'left' && count === 0) end(EXIT.done);
  };
  return await context.interrupts.during(
    () => end(EXIT.interrupted),
    async () => {
      const ignoreInput = exitWithParent ? context.interrupts.atInputEnd(() => end(EXIT.done)) : undefined;
      try {
        const place = await listen(server, wish);
        tell(context, backup, disks, wish, place);
        return await ended;
      } finally {
        ignoreInput?.();
        backup.source.endSearch?.();
        await server.close();
      }
    },
  );
}

/** Where on the network, if it is. */
async function listen(server: NbdServer, { socketPath, tcp }: ListenWish): Promise<TcpPlace | undefined> {
  if (socketPath !== undefined) await server.listenUnix(socketPath);
  if (tcp === undefined) return undefined;
  const { port } = await server.listenTcp(tcp.host, tcp.port, tcp.tls, { allowPlain: tcp.allowPlain });
  const [user] = tcp.tls?.kind === 'psk' ? (await readPskFile(tcp.tls.path)).keys() : [];
  return { port, user };
}

function tell(
  { output }: Context,
  backup: OpenBackup,
  disks: readonly BackupDisk[],
  { socketPath, tcp }: ListenWish,
  place: TcpPlace | undefined,
): void {
  const exports = disks.map(({ disk: { name, sizeBytes } }) => {
    const uris: string[] = [];
    if (socketPath !== undefined) uris.push(socketUri(socketPath, name));
    if (tcp !== undefined && place !== undefined) uris.push(tcpUri(tcp, place, name));
    return { name, size: sizeBytes, uris };
  });
  output.result(
    () => ({ backup: backup.name, ...(socketPath === undefined ? {} : { socket: socketPath }), exports }),
    () => {
      const columns = [{ title: 'disk' }, { title: 'size', align: 'right' as const }, { title: 'at' }];
      const rows = exports.flatMap(({ name, size, uris }) =>
        uris.map((uri) => [name, humanSize(size), printable(uri)]),
      );
      return [
        `${printable(backup.name)} is served, read-only, until this program is stopped`,
        renderTable(output.paint, columns, rows),
      ].join('\n');
    },
  );
}
