// SPDX-License-Identifier: MIT
// The images that the benchmark reads. They are made once and kept; the recipe says what they hold, and another recipe
// makes them anew. docs/BENCHMARKS.md describes them.
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, open, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { appendTail, chooseFiles, makeFileSystem, populate, writeNoise } from '../../scripts/make-image.mjs';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const CLUSTER_BYTES = 64 * 1024;
const SCAN_BYTES = 4 * MIB;
/** Changing this makes everybody's images anew. */
const RECIPE_VERSION = 1;

/** What the images are made of, for `dataMib` MiB of real files. */
export function recipeFor(dataMib) {
  return {
    version: RECIPE_VERSION,
    dataMib,
    noiseMib: Math.round(dataMib / 10),
    fileSystemBytes: Math.max(4 * GIB, 2 * dataMib * MIB),
    tailBytes: 12_345,
    changedShare: 0.05,
    longestRunClusters: 32,
    bigBytes: 64 * GIB,
    bigStepBytes: 8 * MIB,
    smallBytes: 64 * MIB,
  };
}

/** Bytes of disk that the images and one contender's work take together. */
export function roomFor(recipe) {
  return 4 * (recipe.dataMib + recipe.noiseMib) * MIB + 3 * GIB;
}

/**
 * Gives the images in `directory`, making them first if they are not those of the recipe:
 * `{ night1, night2, big, small, dataBytes, changedBytes, files }`, the first four paths.
 */
export async function benchImages(workplace, directory, recipe, say) {
  const notes = join(directory, 'recipe.json');
  const known = existsSync(notes) ? JSON.parse(readFileSync(notes, 'utf8')) : {};
  if (JSON.stringify(known.recipe) !== JSON.stringify(recipe)) {
    say(`making the images in ${directory}`);
    await rm(directory, { recursive: true, force: true });
    const facts = await makeImages(workplace, workplace.join('images'), recipe);
    await rename(workplace.join('images'), directory);
    await writeFile(notes, `${JSON.stringify({ recipe, facts }, null, 2)}\n`);
    return { ...pathsIn(directory), ...facts };
  }
  return { ...pathsIn(directory), ...known.facts };
}

function pathsIn(directory) {
  return {
    night1: join(directory, 'night1/disk.raw'),
    night2: join(directory, 'night2/disk.raw'),
    big: join(directory, 'big.raw'),
    small: join(directory, 'small.raw'),
  };
}

async function makeImages(workplace, directory, recipe) {
  const run = (...a) => workplace.run(...a);
  const paths = pathsIn(directory);
  const staging = workplace.join('files');
  for (const path of [staging, join(directory, 'night1'), join(directory, 'night2')])
    await mkdir(path, { recursive: true });

  const roots = ['/usr/bin', '/usr/lib', '/usr/share', '/usr/local', '/usr/include', '/opt'];
  const limits = { limitBytes: recipe.dataMib * MIB, largestBytes: 128 * MIB, costOfFileBytes: 2048 };
  const files = await populate(staging, await chooseFiles(roots, limits));
  await writeNoise(join(staging, 'noise.bin'), recipe.noiseMib * MIB, 1);
  await makeFileSystem(run, paths.night1, staging, recipe.fileSystemBytes);
  await appendTail(paths.night1, recipe.tailBytes, 1);
  await rm(staging, { recursive: true });

  const clusters = await dataClusters(paths.night1);
  await run('cp', ['--sparse=always', paths.night1, paths.night2]);
  const changed = await changeClusters(paths.night2, clusters, recipe);
  await scatter(paths.night1, clusters, paths.big, recipe.bigBytes, recipe.bigStepBytes);
  await scatter(paths.night1, clusters, paths.small, recipe.smallBytes, 2 * CLUSTER_BYTES);
  return {
    files: files.length,
    dataBytes: clusters.length * CLUSTER_BYTES,
    changedBytes: changed * CLUSTER_BYTES,
  };
}

/** The numbers of the clusters that are not all zero; the short one at the end is left out. */
async function dataClusters(path) {
  const found = [];
  const file = await open(path);
  const buffer = Buffer.alloc(SCAN_BYTES);
  const zeros = Buffer.alloc(CLUSTER_BYTES);
  try {
    for (let offset = 0; ; ) {
      const { bytesRead } = await file.read(buffer, 0, SCAN_BYTES, offset);
      for (let at = 0; at + CLUSTER_BYTES <= bytesRead; at += CLUSTER_BYTES) {
        if (zeros.compare(buffer, at, at + CLUSTER_BYTES) !== 0) found.push((offset + at) / CLUSTER_BYTES);
      }
      offset += bytesRead;
      if (bytesRead < SCAN_BYTES) return found;
    }
  } finally {
    await file.close();
  }
}

/**
 * Changes a share of the clusters in place: runs of 1 to `longestRunClusters` neighbours at pseudo-random places, every
 * byte of a run XORed with one constant. New content for every hash, and as compressible as it was.
 */
async function changeClusters(path, clusters, { changedShare, longestRunClusters }) {
  const random = mulberry32(0x76_6d_61_72);
  const wanted = Math.round(clusters.length * changedShare);
  const changed = new Set();
  const file = await open(path, 'r+');
  const buffer = Buffer.alloc(CLUSTER_BYTES);
  try {
    while (changed.size < wanted) {
      let place = random(clusters.length);
      let left = 1 + random(longestRunClusters);
      const constant = 1 + random(255);
      for (; left > 0 && changed.size < wanted && place < clusters.length; left--, place++) {
        const cluster = clusters[place];
        if (changed.has(cluster)) break;
        changed.add(cluster);
        await file.read(buffer, 0, CLUSTER_BYTES, cluster * CLUSTER_BYTES);
        for (let at = 0; at < CLUSTER_BYTES; at++) buffer[at] ^= constant;
        await file.write(buffer, 0, CLUSTER_BYTES, cluster * CLUSTER_BYTES);
      }
    }
  } finally {
    await file.close();
  }
  return changed.size;
}

/** Makes a sparse file with one cluster of `from` at every `stepBytes`, so that every map page of it is in use. */
async function scatter(from, clusters, path, sizeBytes, stepBytes) {
  const source = await open(from);
  const file = await open(path, 'w');
  const buffer = Buffer.alloc(CLUSTER_BYTES);
  try {
    await file.truncate(sizeBytes);
    for (let offset = 0, n = 0; offset < sizeBytes; offset += stepBytes, n++) {
      await source.read(buffer, 0, CLUSTER_BYTES, clusters[n % clusters.length] * CLUSTER_BYTES);
      await file.write(buffer, 0, CLUSTER_BYTES, offset);
    }
  } finally {
    await file.close();
    await source.close();
  }
}

/** Gives whole numbers below a limit, the same ones for the same seed everywhere. */
export function mulberry32(seed) {
  let state = seed;
  return (limit) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * limit);
  };
}
