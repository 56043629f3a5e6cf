// SPDX-License-Identifier: MIT
// vmar serve, read whole by nbdcopy, against vmar restore of the same backup, in turns: node test/bench/serve.mjs IMAGE
// [DIRECTORY]. IMAGE is a raw disk image, such as night1/disk.raw of `npm run bench`. Prints seconds of each, their ratio,
// and what `vmar serve` took of processor and memory. Also random reads, where fio has its nbd engine.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const ROUNDS = 3;
const TICKS_PER_SECOND = 100;
const VMAR = fileURLToPath(new URL('../../dist/bundle/cli/vmar.js', import.meta.url));
const [image, base] = process.argv.slice(2);
if (image === undefined) {
  console.error('usage: node test/bench/serve.mjs IMAGE [DIRECTORY]');
  process.exit(2);
}
const directory = mkdtempSync(join(base ?? tmpdir(), 'vmar-bench-'));
const socket = join(directory, 'serve.sock');
const uri = `nbd+unix:///disk?socket=${socket}`;
const env = { ...process.env, VMAR_DATASTORE: join(directory, 'store'), VMAR_CACHE_DIR: join(directory, 'cache') };

/** Runs what must work; gives its seconds and what it printed. */
function timed(command, ...args) {
  const start = performance.now();
  const { status, stdout, stderr, error } = spawnSync(command, args, { env, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${error ?? stderr}`);
  return { seconds: (performance.now() - start) / 1000, stdout };
}

const vmar = (...args) => timed(process.execPath, VMAR, '--quiet', ...args);

/** Calls the action while the backup is served; gives also the server's processor time and peak memory. */
async function serving(action) {
  const child = spawn(process.execPath, [VMAR, '--quiet', 'serve', '100', '--socket', socket], {
    env,
    stdio: 'ignore',
  });
  try {
    while (!existsSync(socket)) await sleep(20);
    const before = ticks(child.pid);
    const result = action();
    const seconds = (ticks(child.pid) - before) / TICKS_PER_SECOND;
    const [, kib] = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'));
    return { result, seconds, mib: kib / 1024 };
  } finally {
    child.kill('SIGTERM');
    if (child.exitCode === null) await once(child, 'exit');
  }
}

function ticks(pid) {
  const words = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return Number(words[11]) + Number(words[12]);
}

function randomReads(sizeMib) {
  const job = ['--name=job', '--ioengine=nbd', `--uri=${uri}`, '--rw=randread', '--bs=4k', '--iodepth=16'];
  const time = [`--size=${sizeMib}m`, '--time_based', '--runtime=3', '--output-format=json'];
  const { stdout } = timed('fio', ...job, ...time);
  return JSON.parse(stdout.slice(stdout.indexOf('{'))).jobs[0].read.iops;
}

const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];

try {
  vmar('init', env.VMAR_DATASTORE);
  vmar('backup', '100', '--disk', `disk=${image}`);
  const ratios = [];
  for (let round = 0; round < ROUNDS; round++) {
    const target = join(directory, 'restored.raw');
    const restored = vmar('restore', '100', '--disk', `disk=${target}`).seconds;
    rmSync(target);
    const { result, seconds, mib } = await serving(() => timed('nbdcopy', uri, 'null:').seconds);
    ratios.push(restored / result);
    const cost = `${seconds.toFixed(1)} s of processor, ${mib.toFixed(0)} MiB`;
    console.log(`restore ${restored.toFixed(2)} s, served ${result.toFixed(2)} s (${cost})`);
  }
  console.log(`served at ${median(ratios).toFixed(2)} of the throughput of restore`);
  for (const sizeMib of [32, 512]) {
    const { result } = await serving(() => randomReads(sizeMib));
    console.log(`4 KiB anywhere in ${sizeMib} MiB, 16 at once: ${result.toFixed(0)} IOPS`);
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
