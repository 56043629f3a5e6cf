// SPDX-License-Identifier: MIT
// The demo's guest: two disks, on two nights.
import { mkdir, open, readFile, rm, writeFile } from 'node:fs/promises';
import { appendTail, changeFileSystem, chooseFiles, makeFileSystem, populate, writeNoise } from './make-image.mjs';

const MIB = 2 ** 20;
const FILES = { limitBytes: 400 * MIB, largestBytes: 16 * MIB, costOfFileBytes: 24 * 1024 };
const NOISE_BYTES = 32 * MIB;
const FILE_SYSTEM_BYTES = 768 * MIB;
/** Makes the disk's length no multiple of a cluster, nor of a sector. */
const TAIL_BYTES = 12_345;
const DATA_DISK_BYTES = 48 * MIB + 512;
/** One file in so many is removed, and one changed. */
const CHANGE_ONE_IN = 80;
/** What debugfs takes without quoting. */
const PLAIN_PATH = /^[\w./+-]+$/;

/** Room for the images of two nights, a datastore, and both nights restored. */
export const ROOM_BYTES = 6 * (FILES.limitBytes + NOISE_BYTES);

/** Makes night1/system.raw and night1/data.raw; gives the files inside the first. */
export async function makeFirstNight(workplace) {
  const staging = workplace.join('files');
  await mkdir(workplace.join('night1'));
  await mkdir(`${staging}/media`, { recursive: true });
  const roots = ['/usr/share', '/usr/lib', '/usr/bin', `${process.cwd()}/node_modules`];
  const files = await populate(staging, await chooseFiles(roots, FILES));
  await writeNoise(`${staging}/media/noise.bin`, NOISE_BYTES, 1);
  const image = workplace.join('night1/system.raw');
  await makeFileSystem((...a) => workplace.run(...a), image, staging, FILE_SYSTEM_BYTES);
  await appendTail(image, TAIL_BYTES, 1);
  await rm(staging, { recursive: true });
  await writeDataDisk(workplace.join('night1/data.raw'), 100_000);
  return files;
}

/** Copies night 1 to night 2 and changes it in place: files removed, changed and added inside the file system. */
export async function makeSecondNight(workplace, files) {
  const run = (...a) => workplace.run(...a);
  await mkdir(workplace.join('night2'));
  await run('cp', ['--sparse=auto', 'night1/system.raw', 'night1/data.raw', 'night2/']);
  const plain = files.filter((file) => file.link === undefined && PLAIN_PATH.test(file.path));
  const removed = plain.filter((_, n) => n % CHANGE_ONE_IN === 0).map((file) => file.path);
  const changed = plain.filter((_, n) => n % CHANGE_ONE_IN === CHANGE_ONE_IN >> 1).map((file) => file.path);
  const staging = workplace.join('changes');
  await mkdir(staging);
  const rewritten = [];
  for (const [n, path] of changed.entries()) {
    await writeFile(`${staging}/${n}`, Buffer.concat([await readFile(path), Buffer.from('# night 2\n')]));
    rewritten.push({ path, from: `${staging}/${n}` });
  }
  await writeNoise(`${staging}/noise`, 6 * MIB, 2);
  await writeFile(`${staging}/log`, logText(90_000, 2));
  const added = [
    { path: '/added/noise.bin', from: `${staging}/noise` },
    { path: '/added/guest.log', from: `${staging}/log` },
  ];
  await changeFileSystem(run, workplace.join('night2/system.raw'), `${staging}/commands`, {
    removed: [...removed, ...changed],
    directories: ['/added'],
    written: [...rewritten, ...added],
  });
  await rm(staging, { recursive: true });
  await writeDataDisk(workplace.join('night2/data.raw'), 110_000);
  return { removed: removed.length, changed: changed.length, added: added.length };
}

/** A raw disk without a file system: a log at its start that grows, nothing behind it. */
async function writeDataDisk(path, lines) {
  const file = await open(path, 'w');
  try {
    await file.write(logText(lines, 1), 0);
    await file.truncate(DATA_DISK_BYTES);
  } finally {
    await file.close();
  }
}

function logText(lines, seed) {
  const parts = [];
  for (let n = 0; n < lines; n++) {
    const value = Math.imul(n + seed, 2_654_435_761) >>> 0;
    parts.push(
      `${1_795_000_000 + n * 3} guest[${value % 997}]: request ${value.toString(16)} took ${value % 911} ms\n`,
    );
  }
  return parts.join('');
}
