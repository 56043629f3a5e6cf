// SPDX-License-Identifier: MIT
// A large .vma whose clusters come in no order at all, as many writers at once would leave it, and what its import takes.
import { closeSync, openSync, writeSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { VmaWriter } from '../../../dist/formats/vma/writer.js';
import { timed } from '../measure.mjs';

const GIB = 2 ** 30;
const CLUSTER = 65536;
const BLOCK = 4096;
/** Of so many clusters one is empty, one has some blocks of data, all others are full. */
const PERIOD = 16;

/** Gives `{ seconds, rssBytes }`; checks that all came in, by the map's root, against an import of the same in order. */
export async function measuredMemory(workplace, { gib, clusterSize, vmar }) {
  const home = workplace.join(`shuffled-${clusterSize}`);
  const [shuffled, straight] = [`${home}-shuffled.vma`, `${home}-straight.vma`];
  const env = { VMAR_DATASTORE: home, VMAR_CACHE_DIR: `${home}-cache`, TMPDIR: workplace.path };
  const node = [process.execPath, vmar];
  writeVma(shuffled, gib, true);
  writeVma(straight, gib, false);
  await workplace.run(process.execPath, [vmar, '--quiet', 'init', home, '--cluster-size', clusterSize], { env });
  const measured = await timed(workplace, [[...node, '--quiet', 'import', shuffled, '--guest', '1']], { env });
  await workplace.run(process.execPath, [vmar, '--quiet', 'import', straight, '--guest', '2'], { env });
  const roots = [];
  for (const guest of ['1', '2']) {
    const { stdout } = await workplace.run(process.execPath, [vmar, '--json', 'show', guest], { env });
    roots.push(
      JSON.parse(stdout)
        .disks.map(({ mapRoot }) => mapRoot)
        .join(),
    );
  }
  if (roots[0] !== roots[1]) throw new Error('the shuffled .vma gave other disks than the straight one');
  for (const path of [home, shuffled, straight, `${home}-cache`]) await rm(path, { recursive: true, force: true });
  return { seconds: measured.seconds, rssBytes: measured.rssBytes };
}

/** Two disks, of two thirds and one third. */
function writeVma(path, gib, isShuffled) {
  const disks = [
    { id: 1, name: 'drive-scsi0', sizeBytes: Math.floor((gib * GIB * 2) / 3 / 512) * 512 },
    { id: 2, name: 'drive-scsi1', sizeBytes: Math.floor((gib * GIB) / 3 / 512) * 512 },
  ];
  const uuid = new Uint8Array(16).fill(isShuffled ? 1 : 2);
  const writer = new VmaWriter({ uuid, timeSeconds: 1_700_000_000, configs: [], devices: disks });
  const order = disks.flatMap(({ id, sizeBytes }) =>
    Array.from({ length: Math.ceil(sizeBytes / CLUSTER) }, (_, cluster) => id * 2 ** 32 + cluster),
  );
  if (isShuffled) shuffle(order);
  const fd = openSync(path, 'wx');
  try {
    writeSync(fd, writer.header());
    const cluster = Buffer.alloc(CLUSTER);
    for (const which of order) {
      const [id, number] = [Math.floor(which / 2 ** 32), which % 2 ** 32];
      const bytes = Math.min(CLUSTER, disks[id - 1].sizeBytes - number * CLUSTER);
      const content = number % PERIOD === 0 ? 'zero' : fill(cluster, which, number % PERIOD > 1).subarray(0, bytes);
      for (const extent of writer.cluster(id, number, content)) {
        writeSync(fd, extent);
        writer.recycle(extent);
      }
    }
    for (const extent of writer.end()) writeSync(fd, extent);
  } finally {
    closeSync(fd);
  }
}

/** No two clusters are alike, and each compresses well: the datastore is not what is measured. */
function fill(cluster, seed, isWhole) {
  cluster.fill(0);
  for (let at = 0; at < CLUSTER; at += isWhole ? BLOCK : 3 * BLOCK) cluster.writeDoubleLE(seed + at / CLUSTER, at + 8);
  return cluster;
}

function shuffle(list) {
  let state = 12345;
  for (let i = list.length - 1; i > 0; i--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const j = state % (i + 1);
    [list[i], list[j]] = [list[j], list[i]];
  }
}
