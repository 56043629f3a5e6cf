// SPDX-License-Identifier: MIT
// A program of QEMU that exports an image to us alone.
//
// Guarantee: it ends with us, however we end. It is started by a shell that waits for the end of a pipe which only we
// hold open: the kernel closes it even when we are killed, and the shell then ends the program and removes its socket.

import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { BusyError, FailedError, InterruptedError, VmarError } from '../../src/base/errors.js';
import { PrivateDirectory } from '../../src/base/private-directory.js';
import type { BlockDevice } from '../../src/plugin-api.js';
import { EXPORT_NAME, type ExportedImage, type QemuCommand, qemuCommands } from './qemu-command.js';

/**
 * $1 is the directory, the rest the command. Descriptor 3 is the pipe; 127 says that there is no such program. It is killed
 * outright: qemu-nbd forgets a SIGTERM that comes while it starts, and who only reads has nothing to clear up. The shell would
 * tell of that, to nobody, and end by it.
 */
const GUARDIAN = `
directory=$1
shift
command -v "$1" >/dev/null 2>&1 || exit 127
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!
{ read -r _ <&3; kill -KILL "$server"; } 2>/dev/null &
watch=$!
exec 3<&- 2>/dev/null
wait "$server"
status=$?
kill "$watch" 2>/dev/null
rm -f "$directory/socket"
rmdir "$directory" 2>/dev/null
exit "$status"
`;
const DIRECTORY_PREFIX = 'vmar-qemu-';
const NO_PROGRAM = 127;
const START_MILLIS = 30_000;
const POLL_MILLIS = 10;
/** After this the whole session is killed. */
const END_MILLIS = 5000;
const MOST_SAID = 8192;

export interface ServerHost {
  /** For a directory with the socket. */
  readonly temporaryDirectory: string;
  /** @param name what messages call it */
  openNbd(
    uri: string,
    options: {
      readonly readOnly: true;
      readonly name: string;
      readonly reconnectMillis: 0;
      readonly signal?: AbortSignal;
    },
  ): Promise<BlockDevice>;
}

export interface ServedImage {
  readonly device: BlockDevice;
  /** Closes the device and resolves when the program has ended. */
  end(): Promise<void>;
}

/**
 * Rejects with BusyError when QEMU finds the image locked, FailedError with what QEMU says otherwise, or when none of its
 * programs is installed. Nothing is left behind then.
 */
export async function serveImage(
  host: ServerHost,
  image: ExportedImage,
  name: string,
  signal: AbortSignal | undefined,
): Promise<ServedImage> {
  const directory = PrivateDirectory.makeShort(host.temporaryDirectory, DIRECTORY_PREFIX);
  try {
    for (const command of qemuCommands(image, `${directory.path}/socket`)) {
      const program = new GuardedProgram(directory, command);
      try {
        const device = await connect(host, directory, program, name, signal);
        if (device === undefined) continue;
        const end = async (): Promise<void> => {
          await device.close();
          await program.end();
          directory.remove();
        };
        return { device, end };
      } catch (error) {
        await program.end();
        throw error;
      }
    }
    throw new FailedError('qemu-missing', `images in ${image.format} format are read by qemu-nbd, which is missing`, {
      object: name,
      advice: 'Install the Debian package qemu-utils (or qemu-system-common, for qemu-storage-daemon).',
    });
  } catch (error) {
    directory.remove();
    throw error;
  }
}

/** Undefined if the program is not installed. */
async function connect(
  host: ServerHost,
  directory: PrivateDirectory,
  program: GuardedProgram,
  name: string,
  signal: AbortSignal | undefined,
): Promise<BlockDevice | undefined> {
  const uri = `nbd+unix:///${EXPORT_NAME}?socket=${encodeURIComponent(`${directory.path}/socket`)}`;
  const end = performance.now() + START_MILLIS;
  for (;;) {
    if (signal?.aborted) throw new InterruptedError();
    if (program.hasEnded) {
      const status = await program.ended;
      if (status === NO_PROGRAM) return undefined;
      throw endedEarly(name, program.said, status);
    }
    try {
      const common = { readOnly: true, name, reconnectMillis: 0 } as const;
      return await host.openNbd(uri, signal === undefined ? common : { ...common, signal });
    } catch (error) {
      const isEarly = error instanceof VmarError && (error.code === 'nbd-unreachable' || error.code === 'nbd-lost');
      if (!isEarly || performance.now() > end) throw error;
    }
    await Promise.race([delay(POLL_MILLIS), program.ended]);
  }
}

function endedEarly(name: string, said: string, status: number | undefined): VmarError {
  const lines = said.split('\n').filter((line) => line.trim() !== '');
  const first = lines[0]?.replace(/^qemu-[a-z-]+: /, '') ?? `it ended with status ${status}`;
  if (/lock|is another process using/i.test(said)) {
    return new BusyError('image-locked', `the image is in use and cannot be read: ${first}`, {
      object: name,
      advice:
        'Stop the guest, or back it up through its QMP socket (--qmp SOCKET), or read it as it is with --force-share.',
    });
  }
  return new FailedError('image-unreadable', `QEMU cannot open the image: ${first}`, {
    object: name,
    advice: 'qemu-img check IMAGE and qemu-img info --backing-chain IMAGE tell more.',
  });
}

class GuardedProgram {
  readonly #child: ChildProcess;
  readonly ended: Promise<number | undefined>;
  hasEnded = false;
  said = '';

  constructor(directory: PrivateDirectory, { program, words }: QemuCommand) {
    // A session of its own: Ctrl-C is for us alone, who may still have to read.
    this.#child = spawn('/bin/sh', ['-c', GUARDIAN, 'sh', directory.path, program, ...words], {
      detached: true,
      stdio: ['pipe', 'ignore', 'pipe'],
    });
    this.#child.stdin?.on('error', () => undefined);
    this.#child.stderr?.on('data', (bytes: Buffer) => {
      if (this.said.length < MOST_SAID) this.said += bytes.toString();
    });
    this.ended = new Promise((resolve) => {
      this.#child.once('error', () => resolve(undefined));
      this.#child.once('close', (status) => resolve(status ?? undefined));
    });
    void this.ended.then(() => {
      this.hasEnded = true;
    });
  }

  async end(): Promise<void> {
    this.#child.stdin?.end();
    const late = new AbortController();
    const kill = delay(END_MILLIS, undefined, { signal: late.signal }).then(
      () => this.#kill(),
      () => undefined,
    );
    await this.ended;
    late.abort();
    await kill;
  }

  #kill(): void {
    const { pid } = this.#child;
    if (pid === undefined || this.hasEnded) return;
    try {
      process.kill(-pid, 'SIGKILL');
    } catch {
      // It has ended just now.
    }
  }
}
