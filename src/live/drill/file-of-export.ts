// SPDX-License-Identifier: MIT
// An export of ours as a file, for programs that know nothing of NBD: by nbdfuse, else by qemu-storage-daemon.

import { mkdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { FailedError, InterruptedError } from '../../base/errors.js';
import { type Ended, GuardedProgram, unmountAnyway } from './guarded-program.js';

export interface ExportFile {
  readonly path: string;
  /** Resolves when the program has ended and nothing is mounted any more. */
  end(): Promise<void>;
}

export interface ExportPlace {
  /** The drill's own. */
  readonly directory: string;
  readonly socketPath: string;
  readonly exportName: string;
  readonly lengthBytes: number;
  readonly signal: AbortSignal;
}

const START_MILLIS = 20_000;
const POLL_MILLIS = 20;

/** @throws FailedError if no program can do it here: 'fuse-missing', or 'fuse-failed' with what it said */
export async function fileOfExport(place: ExportPlace): Promise<ExportFile> {
  const said: string[] = [];
  for (const way of [byNbdfuse, byStorageDaemon]) {
    const { path, words, mountPath } = await way(place);
    const program = new GuardedProgram(place.directory, words);
    const problem = await untilThere(path, place, program);
    if (problem === undefined) return { path, end: async () => await endMount(program, mountPath, place.directory) };
    await endMount(program, mountPath, place.directory);
    if (place.signal.aborted) throw new InterruptedError();
    if (problem.status !== undefined) said.push(problem.said.trim() || `${words[0]} ended with ${problem.status}`);
  }
  const found = said.at(-1)?.split('\n')[0];
  throw new FailedError(
    found === undefined ? 'fuse-missing' : 'fuse-failed',
    found === undefined ? 'no program is installed that shows an NBD export as a file' : `FUSE does not work: ${found}`,
    { advice: 'Install the Debian package libnbd-bin (nbdfuse) or qemu-system-common, and check /dev/fuse.' },
  );
}

async function byNbdfuse({ directory, socketPath, exportName }: ExportPlace) {
  const mountPath = join(directory, `${exportName}.mount`);
  await mkdir(mountPath);
  const path = join(mountPath, 'disk');
  const uri = `nbd+unix:///${encodeURIComponent(exportName)}?socket=${encodeURIComponent(socketPath)}`;
  return { path, mountPath, words: ['nbdfuse', path, uri] };
}

async function byStorageDaemon({ directory, socketPath, exportName }: ExportPlace) {
  const path = join(directory, `${exportName}-file.mount`);
  await writeFile(path, '', { flag: 'wx' });
  const node = {
    ...{ driver: 'nbd', 'node-name': 'disk', export: exportName },
    server: { type: 'unix', path: socketPath },
  };
  const shown = { type: 'fuse', id: 'disk', 'node-name': 'disk', mountpoint: path, writable: true };
  const words = ['qemu-storage-daemon', '--blockdev', JSON.stringify(node), '--export', JSON.stringify(shown)];
  return { path, mountPath: path, words };
}

/** How it ended, where it has; undefined once the file is there. */
async function untilThere(
  path: string,
  { lengthBytes, signal }: ExportPlace,
  program: GuardedProgram,
): Promise<Ended | undefined> {
  const end = performance.now() + START_MILLIS;
  while (performance.now() < end && !signal.aborted) {
    if (program.hasEnded) return await program.ended;
    const size = await stat(path).then(
      (found) => found.size,
      () => -1,
    );
    if (size === lengthBytes) return undefined;
    await Promise.race([delay(POLL_MILLIS), program.ended]);
  }
  return { status: 255, said: 'it does not come up' };
}

async function endMount(program: GuardedProgram, mountPath: string, directory: string): Promise<void> {
  await program.end();
  // Where it was killed.
  await unmountAnyway(directory, mountPath);
}
