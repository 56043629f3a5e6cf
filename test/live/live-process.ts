// SPDX-License-Identifier: MIT
// vma-restore --live as a child process, and its events.

import type { Bench, Finished, Json, Running } from '../cli/bench.js';

export class LiveProcess {
  readonly events: Json[] = [];
  readonly #running: Running;
  #rest = '';
  #wake: (() => void)[] = [];
  #finished: Finished | undefined;

  constructor(bench: Bench, words: readonly string[], env: Readonly<Record<string, string>> = {}) {
    this.#running = bench.start(['--json', '--live', ...words], { program: 'vma-restore', env });
    this.#running.child.stdout!.on('data', (bytes: Buffer) => this.#take(bytes.toString()));
    void this.#running.finished.then((finished) => {
      this.#finished = finished;
      this.#wakeAll();
    });
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop()!;
    for (const line of lines) this.events.push(JSON.parse(line));
    this.#wakeAll();
  }

  #wakeAll(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }

  get hasEnded(): boolean {
    return this.#finished !== undefined;
  }

  get finished(): Promise<Finished> {
    return this.#running.finished;
  }

  /** The first event of the kind, now or later. */
  async until(kind: string, isIt: (event: Json) => boolean = () => true): Promise<Json> {
    for (;;) {
      const found = this.events.find((event) => event.event === kind && isIt(event));
      if (found !== undefined) return found;
      if (this.#finished !== undefined) {
        throw new Error(`it ended before "${kind}": ${this.#finished.text}${this.#finished.stderr}`);
      }
      await new Promise<void>((resolve) => this.#wake.push(resolve));
    }
  }

  /** Resolves with the exit status when it has ended. */
  async signal(name: NodeJS.Signals): Promise<number | null> {
    this.#running.child.kill(name);
    return (await this.finished).status;
  }

  async status(): Promise<number | null> {
    return (await this.finished).status;
  }
}

export function exportUri(bench: Bench, name: string, socket = 's.sock'): string {
  return `nbd+unix:///${name}?socket=${bench.path(socket)}`;
}
