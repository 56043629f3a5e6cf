// SPDX-License-Identifier: MIT
// vmar as the live part of the benchmark uses it: a datastore, servers that run until they are stopped, a client.
import { mkdir } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const program = (name) => fileURLToPath(new URL(`../../../dist/bundle/cli/${name}.js`, import.meta.url));

export class Vmar {
  #workplace;
  #environment;

  constructor(workplace, home) {
    this.#workplace = workplace;
    this.#environment = { VMAR_DATASTORE: `${home}/store`, VMAR_CACHE_DIR: `${home}/cache` };
    this.home = home;
  }

  /** A datastore with one backup of the image, as guest 100, disk `disk`. */
  async backUp(image) {
    await mkdir(this.home, { recursive: true });
    await this.run('init', `${this.home}/store`);
    await this.run('backup', '100', '--disk', `disk=${image}`);
  }

  async run(...words) {
    return await this.#workplace.run(process.execPath, [program('vmar'), '--quiet', ...words], {
      env: this.#environment,
    });
  }

  /** `vmar` or `vma-restore`, running: as Workplace.start, and `event(name)` waits for a line of its `--json` output. */
  start(name, ...words) {
    const running = this.#workplace.start(process.execPath, [program(name), '--json', ...words], {
      env: this.#environment,
    });
    const lines = [];
    const waiting = new Set();
    createInterface({ input: running.child.stdout }).on('line', (line) => {
      lines.push(JSON.parse(line));
      for (const wake of waiting) wake();
    });
    const event = async (wanted) => {
      for (;;) {
        const found = lines.find((line) => wanted(line));
        if (found !== undefined) return found;
        const woken = new Promise((resolve) => waiting.add(resolve));
        const ended = running.ended.then((status) => {
          throw new Error(`${name} ended with ${status} before it was expected to`);
        });
        await Promise.race([woken, ended]);
        waiting.clear();
      }
    };
    return { ...running, event };
  }
}
