// SPDX-License-Identifier: MIT
// The guest's serial console: says what it is told, waits for what it must say.

import net from 'node:net';

/** Far more than a slow machine needs: only a guest that hangs takes so long. */
const PATIENCE_MILLIS = 180_000;

export interface CommandResult {
  readonly status: number;
  readonly output: string;
}

export class SerialConsole {
  readonly #socket: net.Socket;
  /** All that it said. */
  #said = '';
  /** What was waited for is before this. */
  #seen = 0;
  #lastCommand = 0;
  #wake: (() => void)[] = [];
  #hasEnded = false;

  /** Of a character device that listens. */
  constructor(path: string) {
    this.#socket = net.connect(path);
    this.#socket.setEncoding('latin1');
    this.#socket.on('data', (text: string) => {
      this.#said += text.replaceAll('\r', '');
      this.#wakeAll();
    });
    this.#socket.on('error', () => {});
    this.#socket.on('close', () => {
      this.#hasEnded = true;
      this.#wakeAll();
    });
  }

  #wakeAll(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }

  get said(): string {
    return this.#said;
  }

  send(text: string): void {
    this.#socket.write(text);
  }

  /** The first match in what was said after the last one. */
  async expect(pattern: RegExp, patienceMillis = PATIENCE_MILLIS): Promise<RegExpExecArray> {
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.#wakeAll();
    }, patienceMillis);
    try {
      for (;;) {
        const found = pattern.exec(this.#said.slice(this.#seen));
        if (found !== null) {
          this.#seen += found.index + found[0].length;
          return found;
        }
        if (this.#hasEnded || late) {
          const why = late
            ? `did not say ${pattern} for ${patienceMillis / 1000} s`
            : `ended before it said ${pattern}`;
          throw new Error(`the guest ${why}; its last words:\n${this.#said.slice(-3000)}`);
        }
        await new Promise<void>((resolve) => this.#wake.push(resolve));
      }
    } finally {
      clearTimeout(timer);
    }
  }

  /** From the login prompt, which must have been waited for, to a shell that neither prompts nor repeats what it is told. */
  async logIn(): Promise<void> {
    this.send('root\n');
    await this.expect(/# /);
    this.send('stty -echo; dmesg -n 3; sh 2>&1 | cat\n');
    await this.run('true');
  }

  /** Runs a line in the shell. */
  async run(line: string, patienceMillis?: number): Promise<CommandResult> {
    const number = ++this.#lastCommand;
    const from = this.#seen;
    // What is echoed has no numbers in it.
    this.send(`${line}\nprintf '\\n<%s:%s>\\n' ${number} $?\n`);
    const [, status] = await this.expect(new RegExp(`\\n<${number}:(\\d+)>\\n`), patienceMillis);
    const said = this.#said.slice(from, this.#seen);
    return { status: Number(status), output: said.slice(0, said.lastIndexOf('\n<')).trim() };
  }

  /** Runs a line that must succeed; gives what it printed. */
  async do(line: string, patienceMillis?: number): Promise<string> {
    const { status, output } = await this.run(line, patienceMillis);
    if (status !== 0) throw new Error(`in the guest, ${line}: exit ${status}: ${output}`);
    return output;
  }

  close(): void {
    this.#socket.destroy();
  }
}
