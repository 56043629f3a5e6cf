// SPDX-License-Identifier: MIT
// How many ids a map page should hold: what a night's changes cost in new pages, for fan-outs 64 to 1024. A simulation
// that needs no vmar: which pages change follows from which clusters change, and pages are ids, which are random.
// usage: node test/bench/map-fanout.mjs [--no-write]
import { randomFillSync } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { compress } from 'zstd-napi';
import { mulberry32 } from './image.mjs';
import { table, writeBetween } from './table.mjs';

const PAGE = fileURLToPath(new URL('../../docs/BENCHMARKS.md', import.meta.url));
const FANOUTS = [64, 128, 256, 512, 1024];
const ID_BYTES = 32;
const CLUSTER_BYTES = 64 * 1024;
const GIB = 2 ** 30;
const DISKS = [
  ['64 GiB', 64 * GIB],
  ['1 TiB', 1024 * GIB],
];
const SHARES = [0.0001, 0.001, 0.01, 0.05];
const RUNS = [
  ['scattered', 1],
  ['runs of 16', 16],
];
/** What every stored chunk takes besides its bytes: an entry of 48 bytes in its extent's table, and one in the trailer's. */
const ENTRY_BYTES = 2 * 48;
/** Pages are compressed together, up to a frame of 1 MiB; more than this much of one case is not compressed but reckoned. */
const FRAME_BYTES = 2 ** 20;
const SAMPLE_BYTES = 8 * FRAME_BYTES;
/** Data shrinks by about this much at zstd level 1; only the last columns' share depends on it. */
const DATA_RATIO = 2.7;

/** The pages of each level that change, bottom up: lists of page counts; the last level has the one root. */
function changedPages(changed, clusters, fanout) {
  const levels = [];
  let numbers = changed;
  for (let count = clusters; levels.length === 0 || count > 1; ) {
    count = Math.ceil(count / fanout);
    const pages = new Set();
    for (const number of numbers) pages.add(Math.floor(number / fanout));
    numbers = pages;
    levels.push(pages.size);
  }
  return levels;
}

/** All pages of a full disk's map, of all levels, as bytes of ids. */
function wholeMapBytes(clusters, fanout) {
  let bytes = 0;
  for (let entries = clusters; ; entries = Math.ceil(entries / fanout)) {
    bytes += entries * ID_BYTES;
    if (entries <= fanout) return bytes;
  }
}

/** The bytes that so many pages of a full disk take as frames, really compressed for a sample of them. */
function storedPageBytes(pages, pageBytes) {
  const rawBytes = pages * pageBytes;
  const sampleBytes = Math.min(rawBytes, SAMPLE_BYTES);
  let storedSampleBytes = 0;
  for (let left = sampleBytes; left > 0; left -= FRAME_BYTES) {
    const frame = randomFillSync(Buffer.allocUnsafe(Math.min(left, FRAME_BYTES)));
    const compressed = compress(frame, { compressionLevel: 1 }).length;
    // A frame that does not shrink is stored as it is.
    storedSampleBytes += Math.min(compressed, frame.length);
  }
  return rawBytes === 0 ? 0 : Math.round((rawBytes / sampleBytes) * storedSampleBytes);
}

/** A set of `share` of the clusters, in runs of `runClusters` that begin anywhere. */
function changedClusters(clusters, share, runClusters) {
  const random = mulberry32(1);
  const wanted = Math.round(clusters * share);
  const changed = new Set();
  while (changed.size < wanted) {
    const first = random(clusters);
    for (let n = 0; n < runClusters && first + n < clusters && changed.size < wanted; n++) changed.add(first + n);
  }
  return changed;
}

function size(bytes) {
  if (bytes >= 100 * 2 ** 20) return `${Math.round(bytes / 2 ** 20)} MiB`;
  if (bytes >= 2 ** 20) return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  return `${Math.round(bytes / 1024)} KiB`;
}

function costRow([diskName, diskBytes], share, [runName, runClusters]) {
  const clusters = diskBytes / CLUSTER_BYTES;
  const changed = changedClusters(clusters, share, runClusters);
  const dataBytes = (changed.size * CLUSTER_BYTES) / DATA_RATIO;
  const cells = FANOUTS.map((fanout) => {
    const pages = changedPages(changed, clusters, fanout).reduce((sum, count) => sum + count, 0);
    const bytes = storedPageBytes(pages, fanout * ID_BYTES) + pages * ENTRY_BYTES;
    return `${size(bytes)} (${((100 * bytes) / dataBytes).toFixed(1)} %)`;
  });
  return [`${diskName}, ${share * 100} %, ${runName}`, size(dataBytes), ...cells];
}

/** Depth and size of a full disk's map. */
function shapeRows() {
  const rows = [];
  for (const [name, bytes] of DISKS) {
    const clusters = bytes / CLUSTER_BYTES;
    rows.push([`${name}: pages on the way to a cluster`, ...FANOUTS.map((f) => changedPages([0], clusters, f).length)]);
    rows.push([
      `${name}: whole map, with table entries`,
      ...FANOUTS.map((fanout) => {
        const mapBytes = wholeMapBytes(clusters, fanout);
        return size(mapBytes + (mapBytes / (fanout * ID_BYTES)) * ENTRY_BYTES);
      }),
    ]);
    rows.push([
      `${name}: bytes of pages read for one cluster`,
      ...FANOUTS.map((fanout) => size(changedPages([0], clusters, fanout).length * fanout * ID_BYTES)),
    ]);
  }
  return rows;
}

const fanoutNames = FANOUTS.map((fanout) => `${fanout} (${(fanout * ID_BYTES) / 1024} KiB)`);
const costs = DISKS.flatMap((disk) => SHARES.flatMap((share) => RUNS.map((run) => costRow(disk, share, run))));
const text = [
  'New map bytes of a night, by fan-out (and page size); in brackets, as a share of the changed data after compression:',
  '',
  table(['disk, changed, where', 'data', ...fanoutNames], costs),
  '',
  'The map itself:',
  '',
  table(['', ...fanoutNames], shapeRows()),
].join('\n');
console.log(text);
if (!process.argv.includes('--no-write')) writeBetween(PAGE, 'fanout', text);
