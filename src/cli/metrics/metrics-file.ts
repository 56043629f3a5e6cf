// SPDX-License-Identifier: MIT
// Figures in the text format of Prometheus, for the textfile collector of its node exporter.

import prometheus from 'prom-client';
import { replaceFile } from '../../nightly/replace-file.js';

export type Labels = Readonly<Record<string, string>>;

/** The node exporter runs as a user of its own. */
const READABLE_BY_ALL = 0o644;

export class MetricsFile {
  readonly #registry = new prometheus.Registry();
  readonly #labels: Labels;

  /** @param labels of every figure */
  constructor(labels: Labels) {
    this.#labels = labels;
  }

  /** One metric. The name ends in its unit; samples without a value are left out, and a metric without samples too. */
  gauge(name: string, help: string, samples: readonly { labels?: Labels; value: number | undefined }[]): void {
    const known = samples.filter(({ value }) => value !== undefined);
    const [first] = known;
    if (first === undefined) return;
    const labelNames = Object.keys({ ...this.#labels, ...first.labels });
    const gauge = new prometheus.Gauge({ name, help, labelNames, registers: [this.#registry] });
    for (const { labels, value } of known) gauge.set({ ...this.#labels, ...labels }, value ?? 0);
  }

  /** Writes them in one step. @throws FailedError */
  async write(path: string): Promise<void> {
    await replaceFile(path, await this.#registry.metrics(), READABLE_BY_ALL);
  }
}
