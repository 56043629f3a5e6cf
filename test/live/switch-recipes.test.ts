// SPDX-License-Identifier: MIT
// Proves: the commands by which docs/LIVE-RESTORE.md lets QEMU restore by itself work as they are written there, with a guest
// that writes meanwhile.

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Bench, type Json, type Running } from '../cli/bench.js';
import { makeImage, noise } from '../cli/images.js';
import { haveMachine, type Machine, startMachine } from '../qmp/machine.js';
import { acknowledged, BLOCK_BYTES, BLOCKS, bootWords, checkWrites, writeBootDisk } from './switch-writer.js';

const bench = new Bench();
const LOG = bench.path('log');
const PAGE = readFileSync(new URL('../../docs/LIVE-RESTORE.md', import.meta.url), 'utf8');

/** The two code blocks after the mark: shell commands, lines for the monitor. Places are those of the test. */
function recipe(name: string): { readonly shell: string[]; readonly monitor: string[] } {
  const [, shell = '', , monitor = ''] = (PAGE.split(`<!-- recipe: ${name} -->`)[1] ?? '').split('```');
  const lines = (text: string) =>
    text
      .trim()
      .replace(/\\\n\s*/g, '')
      .split('\n');
  const placed = shell
    .replaceAll('/var/lib/images', bench.directory)
    .replaceAll(/\/run\/(qemu\/)?/g, `${bench.directory}/`);
  return { shell: lines(placed), monitor: lines(monitor) };
}

describe.skipIf(!haveMachine("QEMU's own ways to restore"))('the page shows how QEMU restores by itself', () => {
  let image: Buffer;
  let server: Running | undefined;
  let machine: Machine | undefined;

  beforeAll(async () => {
    await bench.json(['init', bench.store]);
    makeImage(bench.path('a.raw'), BLOCKS * BLOCK_BYTES, [{ at: 0, bytes: noise(30) }]);
    image = readFileSync(bench.path('a.raw'));
    await bench.json(['backup', '100', '--disk', 'scsi0=a.raw']);
    writeBootDisk(bench.path('boot.raw'));
  });

  afterEach(async () => {
    await machine?.kill();
    server?.child.kill('SIGKILL');
    await server?.finished;
    for (const name of ['vmar-100.sock', '100-scsi0.qcow2', '100-scsi0.raw', '100-overlay.qcow2']) {
      rmSync(bench.path(name), { force: true });
    }
  });

  async function shell(line: string): Promise<void> {
    const [program, ...words] = line.match(/'[^']*'|\S+/g)!.map((word) => word.replace(/^'|'$/g, ''));
    if (program === 'vmar') {
      server = bench.start(words);
      while (!existsSync(bench.path('vmar-100.sock'))) await delay(20);
    } else if (program === 'qemu-img') expect(spawnSync(program, words).status).toBe(0);
    else {
      const disks = words.slice(words.indexOf('-device'));
      machine = await startMachine(bench.directory, [...bootWords(bench.path('boot.raw'), LOG), ...disks]);
      while (acknowledged(LOG) < 10) await delay(20);
    }
  }

  async function ask(line: string): Promise<void> {
    const wanted = /^# wait until query-jobs says "(?<status>\w+)"/.exec(line)?.groups?.status;
    if (wanted === undefined) {
      const { execute, arguments: given } = JSON.parse(line);
      await machine!.monitor.ask(execute, given);
      return;
    }
    for (;;) {
      const [job] = (await machine!.monitor.ask('query-jobs')) as Json[];
      expect(job?.error).toBeUndefined();
      if (job?.status === wanted) return;
      await delay(20);
    }
  }

  it.each([
    ['stream', '100-scsi0.qcow2'],
    ['mirror', '100-scsi0.raw'],
  ])(
    'by a %s job',
    async (name, target) => {
      const { shell: commands, monitor } = recipe(name);
      expect(commands.length).toBeGreaterThan(2);
      for (const line of commands) await shell(line);
      for (const line of monitor) await ask(line);
      // The backup is needed no more.
      server?.child.kill('SIGTERM');
      await server?.finished;
      const before = acknowledged(LOG);
      while (acknowledged(LOG) < before + 5) await delay(20);
      await machine!.monitor.ask('stop');
      const writes = acknowledged(LOG);
      await machine!.kill();
      const raw = bench.path('out.raw');
      expect(spawnSync('qemu-img', ['convert', '-O', 'raw', bench.path(target), raw]).status).toBe(0);
      checkWrites(readFileSync(raw), image, writes);
      const { 'backing-filename': backing } = JSON.parse(
        spawnSync('qemu-img', ['info', '--output=json', bench.path(target)]).stdout.toString(),
      );
      expect(backing).toBeUndefined();
    },
    60_000,
  );
});
