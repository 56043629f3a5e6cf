// SPDX-License-Identifier: MIT
// Our NBD server beside qemu-nbd over the same raw file, in turns.
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { median } from '../measure.mjs';

const SIZE_MIB = 512;
const SECONDS = 2;
const ROUNDS = 3;
const SERVE_FILE = fileURLToPath(new URL('../../nbd/serve-file.mjs', import.meta.url));

/** `client` gives, for a URI, the command; `figure` what it reached: MiB/s or IOPS. */
const JOBS = [
  fioJob('fio: read, 1 MiB in order, 4 at once', ['--rw=read', '--bs=1M', '--iodepth=4']),
  fioJob('fio: write, 1 MiB in order, 4 at once', ['--rw=write', '--bs=1M', '--iodepth=4']),
  { name: 'nbdcopy: read', unit: 'MiB/s', client: (uri) => ['nbdcopy', uri, 'null:'], figure: throughput },
  { name: 'nbdcopy: write', unit: 'MiB/s', client: (uri, file) => ['nbdcopy', file, uri], figure: throughput },
  fioJob('fio: read, 4 KiB anywhere, 16 at once', ['--rw=randread', '--bs=4k', '--iodepth=16']),
  fioJob('fio: write, 4 KiB anywhere, 16 at once', ['--rw=randwrite', '--bs=4k', '--iodepth=16']),
];

function fioJob(name, words) {
  const unit = words.includes('--bs=4k') ? 'IOPS' : 'MiB/s';
  return {
    name,
    unit,
    client: (uri) => [
      'fio',
      ...['--name=job', '--ioengine=nbd', `--uri=${uri}`, `--size=${SIZE_MIB}M`, '--randrepeat=1'],
      ...['--time_based', `--runtime=${SECONDS}`, '--ramp_time=0.5', '--output-format=json', ...words],
    ],
    figure({ stdout }) {
      const { read, write } = JSON.parse(stdout.slice(stdout.indexOf('{'))).jobs[0];
      const side = words[0].endsWith('read') ? read : write;
      return unit === 'IOPS' ? side.iops : side.bw_bytes / 2 ** 20;
    },
  };
}

function throughput(_, seconds) {
  return SIZE_MIB / seconds;
}

/** Gives `[{ name, unit, ours, theirs, ratio }]`, medians of the rounds. */
export async function nbdSpeed(workplace) {
  const [file, other] = [workplace.join('nbd.raw'), workplace.join('nbd-source.raw')];
  for (const path of [file, other]) {
    await workplace.run('dd', ['if=/dev/urandom', `of=${path}`, 'bs=1M', `count=${SIZE_MIB}`]);
  }
  const servers = {
    ours: (socket) => [process.execPath, SERVE_FILE, file, socket],
    theirs: (socket) => ['qemu-nbd', '-t', '-f', 'raw', '-e', '16', '-k', socket, file],
  };
  const rows = [];
  for (const job of JOBS) {
    const found = { ours: [], theirs: [], ratios: [] };
    for (let round = 0; round < ROUNDS; round++) {
      for (const side of ['ours', 'theirs']) found[side].push(await measure(workplace, servers[side], job, other));
      found.ratios.push(found.ours.at(-1) / found.theirs.at(-1));
    }
    const [ours, theirs, ratio] = [found.ours, found.theirs, found.ratios].map(median);
    rows.push({ name: job.name, unit: job.unit, ours, theirs, ratio });
  }
  for (const path of [file, other]) await rm(path);
  return rows;
}

async function measure(workplace, server, { client, figure }, source) {
  const socket = workplace.join('nbd.sock');
  await rm(socket, { force: true });
  const [command, ...args] = server(socket);
  const running = workplace.start(command, args);
  while (!existsSync(socket)) await delay(20);
  const [program, ...words] = client(`nbd+unix:///?socket=${socket}`, source);
  const start = performance.now();
  const result = await workplace.run(program, words);
  const seconds = (performance.now() - start) / 1000;
  await running.stop();
  return figure(result, seconds);
}
