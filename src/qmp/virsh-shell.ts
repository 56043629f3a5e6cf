// SPDX-License-Identifier: MIT
// virsh as a shell that reads commands from a pipe. A process for each command takes twenty milliseconds and more to
// start and to connect, and a guest may stand still meanwhile; in a shell that is connected a command takes two.
//
// Where virsh was built with readline, its output has each command again behind the prompt; where it was not, only the prompt.

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { setImmediate } from 'node:timers/promises';

export interface ShellOutput {
  /** Lines of standard output, without prompts and commands. */
  readonly lines: readonly string[];
  readonly errors: string;
}

/** Why there is no output. */
export class ShellFault extends Error {
  readonly kind: 'missing' | 'ended' | 'flood' | 'killed';

  constructor(kind: ShellFault['kind'], message: string, cause?: unknown) {
    super(message, { cause });
    this.kind = kind;
  }
}

const PROMPT = /^(virsh # ?)+/;
const MOST_ERROR_BYTES = 4096;

/** Calls must not overlap. After a rejection only `end` may be called. */
export class VirshShell {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #mostBytes: number;
  /** Output of the command under way; joined at its end, since a flood comes in thousands of pieces. */
  #pieces: string[] = [];
  #length = 0;
  /** What stands behind the output of the command under way, and where it may have begun. */
  #mark = '';
  #tail = '';
  #isAnswered = false;
  #errors = '';
  #asked = 0;
  #fault: ShellFault | undefined;
  #onNews: () => void = () => {};

  constructor(program: string, mostBytes: number) {
    this.#mostBytes = mostBytes;
    this.#child = spawn(program, ['--quiet'], { stdio: ['pipe', 'pipe', 'pipe'] });
    const { stdin, stdout, stderr } = this.#child;
    stdout.setEncoding('utf8').on('data', (text: string) => this.#take(text));
    stderr.setEncoding('utf8').on('data', (text: string) => {
      if (this.#errors.length < MOST_ERROR_BYTES) this.#errors += text;
    });
    // A shell that ended is told by 'close'.
    stdin.on('error', () => {});
    this.#child.on('error', (error) => this.#end(new ShellFault('missing', error.message, error)));
    this.#child.on('close', (status) => {
      this.#end(new ShellFault('ended', firstLine(this.#errors) ?? `it ended with status ${status}`));
    });
  }

  get isUsable(): boolean {
    return this.#fault === undefined;
  }

  /** What the command, in virsh's own words, comes to. Rejects with ShellFault. */
  async run(words: readonly string[]): Promise<ShellOutput> {
    const number = ++this.#asked;
    this.#pieces = [];
    this.#length = 0;
    this.#mark = `vmar ${number} done`;
    this.#tail = '';
    this.#isAnswered = false;
    this.#errors = '';
    // With other quotes than in its output, so that a command that is printed again is not taken for what it prints.
    this.#child.stdin.write(`${words.map(quoted).join(' ')}\necho vmar '${number}' done\n`);
    while (!this.#isAnswered) {
      if (this.#fault !== undefined) throw this.#fault;
      await new Promise<void>((resolve) => {
        this.#onNews = resolve;
      });
    }
    const output = this.#pieces.join('');
    const lines = linesOf(output.slice(0, output.indexOf(this.#mark)));
    if (!lines.some((line) => line.startsWith('{'))) await bothPipesRead();
    return { lines, errors: this.#errors };
  }

  /** The command under way may have reached libvirt all the same. */
  end(): void {
    this.#end(new ShellFault('killed', 'it was called off'));
    this.#child.kill('SIGKILL');
    for (const pipe of [this.#child.stdin, this.#child.stdout, this.#child.stderr]) pipe.destroy();
  }

  #take(text: string): void {
    this.#length += text.length;
    if (this.#length > this.#mostBytes) {
      this.#end(new ShellFault('flood', `more than ${this.#mostBytes} bytes`));
      return;
    }
    this.#pieces.push(text);
    const sight = this.#tail + text;
    this.#tail = sight.slice(-this.#mark.length);
    if (!sight.includes(this.#mark)) return;
    this.#isAnswered = true;
    this.#onNews();
  }

  #end(fault: ShellFault): void {
    this.#fault ??= fault;
    this.#onNews();
  }
}

/**
 * What was written to the other pipe before lies there by now: the event loop has looked at all pipes when the second of
 * these comes, however busy the machine is. The first may come before that.
 */
async function bothPipesRead(): Promise<void> {
  await setImmediate();
  await setImmediate();
}

/** As virsh's own parser reads it: nothing in single quotes means anything. */
function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

function linesOf(output: string): string[] {
  const lines = output.split('\n').map((line) => line.replace(PROMPT, ''));
  return lines.filter((line) => line.trim() !== '' && !/^'qemu-monitor-command' |^echo vmar /.test(line));
}

function firstLine(text: string): string | undefined {
  return text.trim().split('\n')[0] || undefined;
}
