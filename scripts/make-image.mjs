// SPDX-License-Identifier: MIT
// Disk images with real content, made without root: an ext4 file system filled from this machine's own files by
// `mke2fs -d`, and changed in place, inside the file system, by `debugfs -w`. For the demo and the benchmark.
import { createCipheriv } from 'node:crypto';
import { constants } from 'node:fs';
import { copyFile, lstat, mkdir, open, readdir, readlink, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

const MIB = 2 ** 20;

/**
 * Regular files and symbolic links under `roots`, in the order of their names, up to `limitBytes` in all: an equal share
 * for each root, what one root does not use goes to the next. Each file counts `costOfFileBytes` more than it holds, since
 * a small one takes a block, and time. Larger files than `largestBytes`, and what cannot be read, are passed over.
 */
export async function chooseFiles(roots, { limitBytes, largestBytes, costOfFileBytes }) {
  const chosen = [];
  let leftBytes = limitBytes;
  for (const [place, root] of roots.entries()) {
    let shareBytes = Math.floor(leftBytes / (roots.length - place));
    for await (const file of filesUnder(root)) {
      if (shareBytes <= 0) break;
      if (file.sizeBytes > largestBytes || file.sizeBytes > shareBytes) continue;
      chosen.push(file);
      shareBytes -= file.sizeBytes + costOfFileBytes;
      leftBytes -= file.sizeBytes + costOfFileBytes;
    }
  }
  return chosen;
}

async function* filesUnder(directory) {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) yield* filesUnder(path);
    else if (entry.isSymbolicLink()) yield { path, sizeBytes: 0, link: await readlink(path) };
    else if (entry.isFile()) yield { path, sizeBytes: (await lstat(path)).size };
  }
}

/** Copies the files into `directory` under their whole paths; gives those that could be read. */
export async function populate(directory, files) {
  const copied = [];
  const made = new Set();
  for (const file of files) {
    const target = join(directory, file.path);
    if (!made.has(dirname(target))) {
      await mkdir(dirname(target), { recursive: true });
      made.add(dirname(target));
    }
    try {
      if (file.link !== undefined) await symlink(file.link, target);
      else await copyFile(file.path, target, constants.COPYFILE_FICLONE);
      copied.push(file);
    } catch (error) {
      if (error.code === 'ENOSPC') throw error;
    }
  }
  return copied;
}

/** `lengthBytes` that no compressor can shorten, the same for the same seed. */
export async function writeNoise(path, lengthBytes, seed) {
  const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16, seed), Buffer.alloc(16));
  const zeros = Buffer.alloc(MIB);
  const file = await open(path, 'w');
  try {
    for (let left = lengthBytes; left > 0; left -= MIB) await file.write(cipher.update(zeros.subarray(0, left)));
  } finally {
    await file.close();
  }
}

/** Makes `image`, sparse, with an ext4 file system of `sizeBytes` that holds what `directory` holds. */
export async function makeFileSystem(run, image, directory, sizeBytes) {
  await run('mke2fs', [
    '-q',
    '-F',
    '-t',
    'ext4',
    '-L',
    'guest',
    '-d',
    directory,
    image,
    `${Math.floor(sizeBytes / 1024)}k`,
  ]);
}

/** Makes the disk longer than its file system: to a length that ends in the middle of a cluster, with data up to the end. */
export async function appendTail(image, tailBytes, seed) {
  const tail = Buffer.alloc(tailBytes, `tail ${seed} `);
  const file = await open(image, 'r+');
  try {
    await file.write(tail, 0, tailBytes, (await file.stat()).size);
  } finally {
    await file.close();
  }
}

/**
 * Changes the file system inside `image`: removes files, writes others anew from `{ path, from }`, makes directories.
 * Rejects if debugfs complains about anything, or if e2fsck finds the result unsound.
 */
export async function changeFileSystem(run, image, scriptPath, { removed, written, directories }) {
  const lines = [];
  for (const path of removed) lines.push(`rm ${path}`);
  for (const path of directories) lines.push(`mkdir ${path}`);
  for (const { path, from } of written) {
    lines.push(`cd ${dirname(path)}`, `write ${from} ${path.slice(path.lastIndexOf('/') + 1)}`);
  }
  await writeFile(scriptPath, `${lines.join('\n')}\n`);
  const { stderr } = await run('debugfs', ['-w', '-f', scriptPath, image]);
  const complaints = stderr.split('\n').filter((line) => line !== '' && !line.startsWith('debugfs 1.'));
  if (complaints.length > 0) throw new Error(`debugfs: ${complaints[0]}`);
  await checkFileSystem(run, image);
}

/** Rejects unless e2fsck, which changes nothing here, finds the file system clean. Gives its last line. */
export async function checkFileSystem(run, image) {
  const { stdout } = await run('e2fsck', ['-fn', image]);
  return stdout.trim().split('\n').at(-1);
}
