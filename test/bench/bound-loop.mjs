// SPDX-License-Identifier: MIT
// The bound that backups are measured against: positioned reads, zero test, one hash a cluster and zstd level 1 a MiB,
// over the data of a file, on all cores, and nothing else. No queue, no slots, no dedup, no output.
//
//   node test/bench/bound-loop.mjs FILE [clusterKiB]
//
// prints one JSON line {bytes, seconds, mbPerSecond}, MB = 10^6 bytes of data ranges read. Threads take the next MiB off
// a shared counter, and the clock starts only when each of them has loaded its libraries and done a MiB.

import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { isMainThread, Worker, workerData } from 'node:worker_threads';

const require = createRequire(import.meta.url);
const UNIT = 1 << 20;
/** Words of the shared state. */
const READY = 0;
const START = 1;
const NEXT = 2;
const FINISHED = 3;
const STATE_WORDS = 4;

if (isMainThread) main();
else work();

function main() {
  const [path, clusterKiB = '64'] = process.argv.slice(2);
  const clusterBytes = Number(clusterKiB) * 1024;
  if (path === undefined || !(clusterBytes >= 4096 && UNIT % clusterBytes === 0)) {
    console.error('usage: node bound-loop.mjs FILE [clusterKiB]    (clusters of 4 to 1024 KiB)');
    process.exit(2);
  }
  const fd = openSync(path, 'r');
  const ranges = dataRanges(fd);
  const units = unitsOf(ranges);
  const state = new Int32Array(new SharedArrayBuffer(STATE_WORDS * 4));
  const threads = availableParallelism();
  for (let i = 0; i < threads; i++)
    new Worker(new URL(import.meta.url), { workerData: { fd, units, clusterBytes, state } });
  waitFor(state, READY, threads);
  const begin = process.hrtime.bigint();
  Atomics.store(state, START, 1);
  Atomics.notify(state, START);
  waitFor(state, FINISHED, threads);
  const seconds = Number(process.hrtime.bigint() - begin) / 1e9;
  closeSync(fd);
  const bytes = ranges.reduce((sum, [from, to]) => sum + to - from, 0);
  console.log(JSON.stringify({ bytes, seconds, mbPerSecond: bytes / 1e6 / seconds }));
}

/** Sleeps till a word of the state has reached a value. */
function waitFor(state, word, value) {
  for (let now = Atomics.load(state, word); now < value; now = Atomics.load(state, word))
    Atomics.wait(state, word, now);
}

/** The file's data as [from, to) pairs, holes left out. */
function dataRanges(fd) {
  const lseek = require('koffi').load(null).func('int64_t lseek(int fd, int64_t offset, int whence)');
  const [SEEK_DATA, SEEK_HOLE] = [3, 4];
  const size = fstatSync(fd).size;
  const ranges = [];
  for (let at = 0; at < size; ) {
    const from = Number(lseek(fd, at, SEEK_DATA));
    if (from < 0) break;
    at = Number(lseek(fd, from, SEEK_HOLE));
    ranges.push([from, at]);
  }
  return ranges;
}

/** Pieces of at most a MiB, cut at multiples of it: offsets and lengths in turn, shared with all threads. */
function unitsOf(ranges) {
  const units = [];
  for (const [from, to] of ranges) {
    for (let at = from; at < to; ) {
      const end = Math.min(to, at - (at % UNIT) + UNIT);
      units.push(at, end - at);
      at = end;
    }
  }
  const shared = new Float64Array(new SharedArrayBuffer(units.length * 8));
  shared.set(units);
  return shared;
}

function work() {
  const { fd, units, clusterBytes, state } = workerData;
  const doUnit = makeLoop(fd, clusterBytes);
  const count = units.length / 2;
  if (count > 0) doUnit(units[0], units[1]);
  Atomics.add(state, READY, 1);
  Atomics.notify(state, READY);
  waitFor(state, START, 1);
  for (let unit = Atomics.add(state, NEXT, 1); unit < count; unit = Atomics.add(state, NEXT, 1)) {
    doUnit(units[unit * 2], units[unit * 2 + 1]);
  }
  Atomics.add(state, FINISHED, 1);
  Atomics.notify(state, FINISHED);
}

/** Reads, tests, hashes and compresses one unit; every buffer is made beforehand. */
function makeLoop(fd, clusterBytes) {
  const { Blake3Hasher } = require('@napi-rs/blake-hash');
  const { CCtx, CParameter, compressBound } = require('zstd-napi/binding.js');
  const hasher = Blake3Hasher.newKeyed(Buffer.alloc(32, 7));
  const compressor = new CCtx();
  compressor.setParameter(CParameter.compressionLevel, 1);
  const input = Buffer.alloc(UNIT);
  const output = Buffer.alloc(compressBound(UNIT));
  const clusters = Array.from({ length: UNIT / clusterBytes }, (_, i) =>
    input.subarray(i * clusterBytes, (i + 1) * clusterBytes),
  );
  const zeros = Buffer.alloc(clusterBytes);
  return (offset, length) => {
    for (let got = 0; got < length; ) {
      const count = readSync(fd, input, got, length - got, offset + got);
      if (count === 0) throw new Error('the file ended early');
      got += count;
    }
    let kept = 0;
    for (let at = 0; at < length; at += clusterBytes) {
      const end = Math.min(length, at + clusterBytes);
      const cluster = end - at === clusterBytes ? clusters[at / clusterBytes] : input.subarray(at, end);
      if (cluster.length === clusterBytes ? zeros.equals(cluster) : cluster.equals(zeros.subarray(0, cluster.length)))
        continue;
      hasher.reset();
      hasher.update(cluster);
      hasher.digestBuffer();
      if (kept !== at) input.copyWithin(kept, at, end);
      kept += end - at;
    }
    if (kept > 0) compressor.compress2(output, kept === UNIT ? input : input.subarray(0, kept));
  };
}
