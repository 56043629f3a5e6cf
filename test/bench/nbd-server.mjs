// SPDX-License-Identifier: MIT
// Our NBD server against qemu-nbd, over the same raw file in turns: node test/bench/nbd-server.mjs [DIRECTORY]
// Prints what each reached and the ratio. Needs fio with its nbd engine and qemu-nbd. Under a minute.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const SIZE = '512M';
const SECONDS = 2;
const ROUNDS = 2;
const JOBS = [
  { name: 'read, 1 MiB in order, 4 at once', unit: 'MiB/s', args: ['--rw=read', '--bs=1M', '--iodepth=4'] },
  { name: 'write, 1 MiB in order, 4 at once', unit: 'MiB/s', args: ['--rw=write', '--bs=1M', '--iodepth=4'] },
  { name: 'read, 4 KiB anywhere, 16 at once', unit: 'IOPS', args: ['--rw=randread', '--bs=4k', '--iodepth=16'] },
  { name: 'write, 4 KiB anywhere, 16 at once', unit: 'IOPS', args: ['--rw=randwrite', '--bs=4k', '--iodepth=16'] },
  { name: 'read, 4 KiB anywhere, one by one', unit: 'IOPS', args: ['--rw=randread', '--bs=4k', '--iodepth=1'] },
];

const directory = mkdtempSync(join(process.argv[2] ?? tmpdir(), 'vmar-bench-'));
const file = join(directory, 'disk.raw');
const servers = {
  vmar: (socket) => [
    process.execPath,
    [fileURLToPath(new URL('../nbd/serve-file.mjs', import.meta.url)), file, socket],
  ],
  'qemu-nbd': (socket) => ['qemu-nbd', ['-t', '-f', 'raw', '-e', '16', '-k', socket, file]],
};

/** Throughput or IOPS of one job against one server, started for it alone. */
async function measure(server, job) {
  const socket = join(directory, `${server}.sock`);
  const child = spawn(...servers[server](socket), { stdio: 'ignore' });
  try {
    while (!existsSync(socket)) await sleep(20);
    const uri = `nbd+unix:///?socket=${socket}`;
    const args = ['--name=job', '--ioengine=nbd', `--uri=${uri}`, `--size=${SIZE}`, '--randrepeat=1'];
    const time = ['--time_based', `--runtime=${SECONDS}`, '--ramp_time=0.5', '--output-format=json'];
    const { stdout, stderr, status } = spawnSync('fio', [...args, ...time, ...job.args], { encoding: 'utf8' });
    if (status !== 0) throw new Error(`fio: ${stderr}`);
    const result = JSON.parse(stdout.slice(stdout.indexOf('{'))).jobs[0];
    const { iops, bw_bytes } = job.args[0].endsWith('read') ? result.read : result.write;
    return job.unit === 'IOPS' ? iops : bw_bytes / 2 ** 20;
  } finally {
    child.kill('SIGTERM');
    if (child.exitCode === null) await once(child, 'exit');
  }
}

const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];

try {
  const filled = spawnSync('dd', ['if=/dev/urandom', `of=${file}`, 'bs=1M', `count=${Number.parseInt(SIZE, 10)}`]);
  if (filled.status !== 0) throw new Error(`dd: ${filled.stderr}`);
  for (const job of JOBS) {
    const found = { vmar: [], 'qemu-nbd': [] };
    for (let round = 0; round < ROUNDS; round++) {
      for (const server of Object.keys(found)) found[server].push(await measure(server, job));
    }
    const [ours, theirs] = [median(found.vmar), median(found['qemu-nbd'])];
    const figures = `vmar ${ours.toFixed(0)}, qemu-nbd ${theirs.toFixed(0)} ${job.unit}`;
    console.log(`${job.name}: ${figures}; ratio ${(ours / theirs).toFixed(2)}`);
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
