// SPDX-License-Identifier: MIT
// Times nights of guests that run: 100 GiB sparse with 64 MiB changed, in one piece and scattered; and many guests of which
// nothing changed. Other builds can be measured in the same run, for comparison.
//
// usage: node test/bench/live-nights.mjs [--rounds N] [--guests N] [DIST...]       (default: dist)

import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import './environment.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: 'string', default: '3' }, guests: { type: 'string', default: '20' } },
});
const rounds = Number(values.rounds);
const guests = Number(values.guests);
const builds = (positionals.length === 0 ? ['dist'] : positionals).map((path) => resolve(path));
const directory = mkdtempSync(join(tmpdir(), 'vmar-nights-'));
const MIB = 1 << 20;
const GIB = 1 << 30;
const DISK = 100 * GIB;

function startDaemon(name, sizeBytes) {
  const [image, mount, qmp] = ['qcow2', 'mount', 'qmp'].map((end) => join(directory, `${name}.${end}`));
  spawnSync('qemu-img', ['create', '-q', '-f', 'qcow2', image, String(sizeBytes)]);
  writeFileSync(mount, '');
  const child = spawn(
    'qemu-storage-daemon',
    [
      ...['--chardev', `socket,path=${qmp},server=on,wait=off,id=c0`, '--monitor', 'chardev=c0'],
      ...['--blockdev', `driver=qcow2,node-name=d-image,file.driver=file,file.filename=${image},discard=unmap`],
      ...['--blockdev', 'driver=raw,node-name=d,file=d-image,discard=unmap'],
      ...['--export', `type=fuse,id=f,node-name=d,mountpoint=${mount},writable=on`],
    ],
    { stdio: 'inherit' },
  );
  while (!existsSync(qmp)) spawnSync('sleep', ['0.02']);
  const stop = () => {
    child.kill('SIGKILL');
    spawnSync('fusermount', ['-u', '-z', mount]);
  };
  return { qmp, mount, stop };
}

let stamp = 0;

/** Content that nobody has seen before. */
function write({ mount }, offsets, lengthBytes) {
  const fd = openSync(mount, 'r+');
  const bytes = randomBytes(lengthBytes);
  for (const at of offsets) {
    bytes.writeUInt32LE(++stamp);
    writeSync(fd, bytes, 0, lengthBytes, at);
  }
  closeSync(fd);
}

function backUp(build, guest, { qmp }) {
  const cli = join(build, 'bundle/cli/vmar.js');
  const words = [
    '--json',
    '--datastore',
    join(directory, 'store'),
    'backup',
    guest,
    '--qmp',
    qmp,
    '--fleece',
    directory,
  ];
  const env = { ...process.env, VMAR_CACHE_DIR: join(directory, 'cache') };
  const from = performance.now();
  const { stdout, stderr, status } = spawnSync(process.execPath, [cli, ...words], { env, encoding: 'utf8' });
  const seconds = (performance.now() - from) / 1000;
  if (status !== 0) throw new Error(stdout + stderr);
  return { ...JSON.parse(stdout), seconds };
}

const median = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];

function tell(what, times) {
  for (const build of builds) {
    const all = times.get(build);
    console.log(
      `${what.padEnd(34)} ${build.padEnd(24)} median ${median(all).toFixed(2)} s of ${all.length}, worst ${Math.max(...all).toFixed(2)} s`,
    );
  }
}

const daemons = [];
try {
  mkdirSync(join(directory, 'cache'));
  spawnSync(process.execPath, [join(builds[0], 'bundle/cli/vmar.js'), 'init', join(directory, 'store')]);
  const large = startDaemon('large', DISK);
  daemons.push(large);
  // Some data all over it, so that its map is one.
  write(
    large,
    Array.from({ length: 2048 }, (_, i) => i * 50 * MIB),
    65536,
  );
  console.log(`first, full: ${backUp(builds[0], 'large', large).seconds.toFixed(2)} s`);
  const kinds = {
    '64 MiB in one piece': () => write(large, [(stamp % 1000) * 64 * MIB], 64 * MIB),
    '64 MiB in 1,024 pieces': () =>
      write(
        large,
        Array.from({ length: 1024 }, (_, i) => i * 100 * MIB + 3 * MIB),
        65536,
      ),
    nothing: () => {},
  };
  for (const [kind, change] of Object.entries(kinds)) {
    const times = new Map(builds.map((build) => [build, []]));
    for (let round = 0; round < rounds; round++) {
      for (const build of builds) {
        change();
        const { seconds, disks } = backUp(build, 'large', large);
        if (disks[0].read > 72 * MIB) throw new Error(`read ${disks[0].read}`);
        times.get(build).push(seconds);
      }
    }
    tell(`100 GiB, ${kind}`, times);
  }
  const small = [];
  for (let i = 0; i < guests; i++) {
    const daemon = startDaemon(`small${i}`, 8 * GIB);
    daemons.push(daemon);
    small.push(daemon);
    write(
      daemon,
      Array.from({ length: 64 }, (_, n) => n * 100 * MIB),
      65536,
    );
    backUp(builds[0], `small${i}`, daemon);
  }
  const times = new Map(builds.map((build) => [build, []]));
  for (let round = 0; round < Math.min(rounds, 2); round++) {
    for (const build of builds)
      for (const [i, daemon] of small.entries()) times.get(build).push(backUp(build, `small${i}`, daemon).seconds);
  }
  tell(`${guests} guests, nothing changed`, times);
} finally {
  for (const { stop } of daemons) stop();
  rmSync(directory, { recursive: true, force: true });
}
