// SPDX-License-Identifier: MIT
// A program that ends with us, however we end.
//
// Guarantee: it is started by a shell that waits for the end of a pipe which only we hold open. The kernel closes it even
// when we are killed; the shell then ends the program, unmounts what lies in the drill's directory, and removes that.

import { type ChildProcess, spawn } from 'node:child_process';

/** $1 is the directory, the rest the command. Descriptor 3 is the pipe; 127 says that there is no such program. */
const GUARDIAN = `
directory=$1
shift
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
command -v "$1" >/dev/null 2>&1 || exit 127
exec 3<&0 </dev/null
"$@" 3<&- &
program=$!
{
  if read -r _ <&3; then orphan=; else orphan=1; fi
  trap '' TERM
  kill "$program"
  tries=0
  while kill -0 "$program" && [ "$tries" -lt 30 ]; do sleep 0.1; tries=$((tries + 1)); done
  kill -9 "$program"
  if [ -n "$orphan" ]; then
    for place in "$directory"/*.mount; do umount -l "$place"; done
    rm -rf "$directory"
  fi
} >/dev/null 2>&1 &
watch=$!
exec 3<&-
wait "$program"
status=$?
kill "$watch" 2>/dev/null
wait "$watch" 2>/dev/null
exit "$status"
`;
const NO_PROGRAM = 127;
/** Of what it says, the end is kept. */
const MOST_SAID = 256 * 1024;

export interface Ended {
  /** undefined: there is no such program. */
  readonly status: number | undefined;
  readonly said: string;
}

export class GuardedProgram {
  readonly #child: ChildProcess;
  readonly ended: Promise<Ended>;
  hasEnded = false;
  #said = '';

  /** `onText` hears what the program writes to standard output; both outputs are kept. */
  constructor(directory: string, words: readonly string[], onText: (text: string) => void = () => {}) {
    // A session of its own: Ctrl-C is for us alone, who end it in order.
    this.#child = spawn('/bin/sh', ['-c', GUARDIAN, 'sh', directory, ...words], {
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const { stdin, stdout, stderr } = this.#child;
    stdin?.on('error', () => undefined);
    stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#keep(text);
      onText(text);
    });
    stderr?.setEncoding('utf8').on('data', (text: string) => this.#keep(text));
    this.ended = new Promise((resolve) => {
      this.#child.once('error', (error) => resolve({ status: 126, said: String(error) }));
      this.#child.once('close', (status) => {
        const code = status === NO_PROGRAM ? undefined : (status ?? 255);
        resolve({ status: code, said: this.#said });
      });
    });
    void this.ended.then(() => {
      this.hasEnded = true;
    });
  }

  get said(): string {
    return this.#said;
  }

  #keep(text: string): void {
    this.#said = (this.#said + text).slice(-MOST_SAID);
  }

  /** Ends it, if it has not ended; resolves when it has. */
  async end(): Promise<void> {
    this.#child.stdin?.end('end\n');
    await this.ended;
  }
}

/** Runs a program to its end, or to the signal's. */
export async function runGuarded(directory: string, words: readonly string[], signal: AbortSignal): Promise<Ended> {
  const program = new GuardedProgram(directory, words);
  const stop = (): void => void program.end();
  signal.addEventListener('abort', stop, { once: true });
  try {
    if (signal.aborted) stop();
    return await program.ended;
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

/** Also what is in use, and whatever the drill was told. Where nothing is mounted that is said to nobody, and right. */
export async function unmountAnyway(directory: string, path: string): Promise<void> {
  await runGuarded(directory, ['umount', '-l', path], new AbortController().signal);
}
