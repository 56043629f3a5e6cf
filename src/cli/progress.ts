// SPDX-License-Identifier: MIT
// How far a long command is, on standard error: a bar on a terminal, a line every ten seconds elsewhere. What is done
// within two seconds shows nothing.

import type { SingleBar } from 'cli-progress';
import { type BarFacts, barText } from './bar-text.js';
import { humanDuration, humanSize } from './human.js';
import type { Output } from './output.js';
import { RateMeter } from './rate-meter.js';
import { CLEAR_LINE, lineColumns, QUIET_MILLIS } from './terminal-line.js';

const LINE_MILLIS = 10_000;
const BAR_MILLIS = 200;
const SAVE_CURSOR = '\u001b7';

export class Progress {
  readonly #output: Output;
  readonly #label: string;
  readonly #startMillis = performance.now();
  readonly #meter = new RateMeter(this.#startMillis);
  #totalBytes = 0;
  #doneBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #bar: SingleBar | undefined;

  /** @param label what is done: "backing up" */
  constructor(output: Output, label: string) {
    this.#output = output;
    this.#label = label;
    if (output.quiet) return;
    const terminal = output.progressTerminal;
    if (terminal === undefined) this.#every(LINE_MILLIS, () => this.#printLine());
    else this.#timer = setTimeout(() => void this.#startBar(terminal), QUIET_MILLIS).unref();
  }

  addTotal(bytes: number): void {
    this.#totalBytes += bytes;
  }

  add(bytes: number): void {
    this.setDone(this.#doneBytes + bytes);
  }

  setDone(bytes: number): void {
    this.#doneBytes = bytes;
    this.#meter.note(performance.now(), bytes);
  }

  /** Takes the bar away. */
  end(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#output.live = undefined;
    this.#bar?.stop();
    this.#bar = undefined;
  }

  #every(millis: number, action: () => void): void {
    this.#timer = setInterval(action, millis).unref();
  }

  async #startBar(terminal: NodeJS.WriteStream): Promise<void> {
    const { SingleBar } = (await import('cli-progress')).default;
    if (this.#timer === undefined) return;
    this.#bar = new SingleBar({
      stream: terminal,
      format: () => barText(this.#facts(), lineColumns(terminal)),
      clearOnComplete: true,
      forceRedraw: true,
      gracefulExit: false,
    });
    this.#bar.start(Math.max(1, this.#totalBytes), this.#doneBytes);
    this.#output.live = {
      before: () => terminal.write(CLEAR_LINE),
      // The bar goes back there when it stops.
      after: () => terminal.write(SAVE_CURSOR),
      end: () => this.end(),
    };
    this.#every(BAR_MILLIS, () => {
      this.#bar?.setTotal(Math.max(1, this.#totalBytes));
      this.#bar?.update(Math.min(this.#doneBytes, Math.max(1, this.#totalBytes)));
    });
  }

  /** Nothing while it is not known how much there is to do. */
  #printLine(): void {
    if (this.#totalBytes === 0) return;
    const { label, share, amount, rate, left } = this.#facts();
    const facts = [amount, rate, left].filter((fact) => fact !== '').join(', ');
    this.#output.notice(`${label}: ${Math.floor(share * 100)} %, ${facts}`);
  }

  #facts(): BarFacts {
    const rate = this.#meter.rate(performance.now(), this.#doneBytes);
    const leftBytes = Math.max(0, this.#totalBytes - this.#doneBytes);
    return {
      label: this.#label,
      share: this.#totalBytes === 0 ? 0 : Math.min(1, this.#doneBytes / this.#totalBytes),
      amount: `${humanSize(this.#doneBytes)} of ${humanSize(this.#totalBytes)}`,
      rate: `${humanSize(Math.round(rate))}/s`,
      left: rate > 0 ? `${humanDuration(leftBytes / rate)} left` : '',
    };
  }
}
