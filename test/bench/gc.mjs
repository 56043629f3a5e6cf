// SPDX-License-Identifier: MIT
// vmar gc on a large datastore that is made quickly: real maps, real tables, chunks of 16 bytes in tiny frames.
//
//   node test/bench/gc.mjs [--chunks N] [--guests N] [--nights N] [--directory DIR] [--keep]
//
// Each guest's disk changes by 5 % from night to night, in runs of 16 clusters. Measured are, as users run them, a dry run
// over everything, a gc that joins what the nights left, and one after each guest's first nights were forgotten.

import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import './environment.mjs';

const DIST = '../../dist';
const { PackRoom } = await import(`${DIST}/src/archive/pack-room.js`);
const { openDatastore } = await import(`${DIST}/src/store/datastore.js`);
const { initDatastore } = await import(`${DIST}/src/store/init.js`);
const { commitManifest, forgetManifest } = await import(`${DIST}/src/store/manifests.js`);
const { PackStream } = await import(`${DIST}/src/store/pack-stream.js`);
const { chunkContext, createHasher, sealer } = await import(`${DIST}/formats/vmar/hash.js`);
const { encodeManifest } = await import(`${DIST}/formats/vmar/manifest.js`);

const { values } = parseArgs({
  options: {
    chunks: { type: 'string', default: '5000000' },
    guests: { type: 'string', default: '50' },
    nights: { type: 'string', default: '20' },
    directory: { type: 'string', default: `${process.env.VMAR_BENCH_DIR ?? '/var/tmp/vmar-bench'}/gc` },
    keep: { type: 'boolean', default: false },
  },
});
const GUESTS = Number(values.guests);
const NIGHTS = Number(values.nights);
const CHANGED = 0.05;
const RUN = 16;
const FANOUT = 128;
const CLUSTER = 65536;
const CHUNK_BYTES = 16;
const CHUNKS_PER_FRAME = 64;
const FIRST_SECONDS = 1_760_000_000;
const CLUSTERS = Math.floor(Number(values.chunks) / (GUESTS * (1 + (NIGHTS - 1) * CHANGED)));
const SEAL = sealer('blake3');
const hashers = new Map();
const PROGRAM = fileURLToPath(new URL('../../dist/bundle/cli/vmar.js', import.meta.url));
const root = join(values.directory, 'store');
const env = { ...process.env, VMAR_DATASTORE: root, VMAR_CACHE_DIR: join(values.directory, 'cache') };

function idOf(bytes, kind) {
  if (!hashers.has(kind)) hashers.set(kind, createHasher('blake3', chunkContext(kind)));
  return hashers.get(kind).digest(bytes);
}

/** Takes chunks, and makes a frame of them now and then. */
class Frames {
  #chunks = [];
  #bytes = [];
  constructor(stream, most) {
    this.stream = stream;
    this.most = most;
  }
  async add(bytes, kind, where) {
    const id = idOf(bytes, kind);
    this.#chunks.push({ id, lengthBytes: bytes.length, kind, disk: 0, where });
    this.#bytes.push(bytes);
    if (this.#chunks.length >= this.most) await this.flush();
    return id;
  }
  async flush() {
    if (this.#chunks.length === 0) return;
    const bytes = Buffer.concat(this.#bytes);
    const chunkCount = this.#chunks.length;
    const entry = { codec: 0, storedBytes: bytes.length, rawBytes: bytes.length, seal: SEAL(bytes), chunkCount };
    await this.stream.add({ entry, bytes, chunks: this.#chunks }, () => {});
    this.#chunks = [];
    this.#bytes = [];
  }
}

/** The disk of a guest as its last night left it: ids by level, and the pages of the levels above that need writing. */
class Guest {
  constructor(number) {
    this.number = number;
    this.levels = [Buffer.alloc(CLUSTERS * 32)];
    for (let pages = CLUSTERS; pages > 1; ) {
      pages = Math.ceil(pages / FANOUT);
      this.levels.push(Buffer.alloc(pages * 32));
    }
  }
  changedClusters(night) {
    if (night === 0) return [...Array(CLUSTERS).keys()];
    const runs = Math.max(1, Math.round((CLUSTERS * CHANGED) / RUN));
    const clusters = new Set();
    for (let run = 0; run < runs; run++) {
      const first = Math.floor(Math.random() * CLUSTERS);
      for (let at = first; at < Math.min(first + RUN, CLUSTERS); at++) clusters.add(at);
    }
    return [...clusters].sort((a, b) => a - b);
  }
  async backUp(night, dataStream, mapStream) {
    const data = new Frames(dataStream, CHUNKS_PER_FRAME);
    let changed = this.changedClusters(night);
    for (const cluster of changed) {
      const bytes = Buffer.alloc(CHUNK_BYTES);
      bytes.writeUInt32LE(this.number, 0);
      bytes.writeUInt32LE(night, 4);
      bytes.writeUInt32LE(cluster, 8);
      this.levels[0].set(await data.add(bytes, 0, cluster), cluster * 32);
    }
    await data.flush();
    const maps = new Frames(mapStream, 32);
    for (let level = 1; level < this.levels.length; level++) {
      changed = [...new Set(changed.map((child) => Math.floor(child / FANOUT)))];
      for (const page of changed) {
        const bytes = Buffer.from(this.levels[level - 1].subarray(page * FANOUT * 32, (page + 1) * FANOUT * 32));
        this.levels[level].set(await maps.add(bytes, level, page), page * 32);
      }
    }
    await maps.flush();
    return Buffer.from(this.levels.at(-1));
  }
}

function manifestOf(guest, timeSeconds, mapRoot, packs, storeUuid) {
  const none = new Uint8Array(0);
  const counts = { readBytes: 0, zeroBytes: 0, unchangedBytes: 0, newBytes: 0, storedBytes: 0, forceShared: false };
  const size = { sizeBytes: CLUSTERS * CLUSTER, clusterSizeBytes: CLUSTER, mapRoot, bitmapName: '', fullReason: '' };
  return {
    ...{ namespace: '', guestType: 'vm', guestId: `${guest.number}`, guestName: '', guestUuid: none, timeSeconds },
    ...{ sequence: 1, previousDigest: none, source: 'image', sourceUuid: none, configs: [], consistency: 'offline' },
    disks: [{ name: 'd', kind: 'disk', ...size, ...counts }],
    packs: [...packs].sort(),
    ...{ writerId: Buffer.alloc(16), writer: 'bench', storeUuid, hash: 'blake3', mapFanout: FANOUT },
    ...{ startedMillis: 0, finishedMillis: 0 },
  };
}

async function makeStore() {
  rmSync(values.directory, { recursive: true, force: true });
  mkdirSync(values.directory, { recursive: true });
  const settings = { clusterSizeBytes: CLUSTER, hash: 'blake3', mapFanout: FANOUT, timeSeconds: FIRST_SECONDS };
  await initDatastore(root, { ...settings, createdBy: 'bench' });
  const store = await openDatastore(root, { cacheDir: env.VMAR_CACHE_DIR });
  const session = await store.beginSession('backup');
  const room = new PackRoom(store, session, Buffer.alloc(16), async () => {});
  for (let number = 0; number < GUESTS; number++) {
    const guest = new Guest(number);
    const packs = new Set();
    for (let night = 0; night < NIGHTS; night++) {
      const streams = [new PackStream(room, 1), new PackStream(room, 2)];
      const mapRoot = await guest.backUp(night, ...streams);
      for (const stream of streams) {
        await stream.finish();
        for (const id of stream.ids) packs.add(Buffer.from(id).toString('hex'));
      }
      const time = FIRST_SECONDS + night * 86400;
      const build = (timeSeconds) =>
        encodeManifest(manifestOf(guest, timeSeconds, mapRoot, packs, store.superblock.storeUuid));
      await commitManifest(store, session, { namespace: '', guestType: 'vm', guestId: `${number}` }, time, build);
    }
  }
  await session.end();
  await store.close();
}

async function forgetFirst(nights) {
  const store = await openDatastore(root, { cacheDir: env.VMAR_CACHE_DIR });
  for (let number = 0; number < GUESTS; number++) {
    for (let night = 0; night < nights; night++) {
      const timeSeconds = FIRST_SECONDS + night * 86400;
      await forgetManifest(store.fs, root, { namespace: '', guestType: 'vm', guestId: `${number}`, timeSeconds });
    }
  }
  await store.close();
}

function measure(what, words) {
  const rssFile = join(values.directory, 'rss');
  const begun = performance.now();
  const command = ['-q', '-f', '%M', '-o', rssFile, process.execPath, PROGRAM, '--json', '--quiet', 'gc', ...words];
  const { status, stdout, stderr } = spawnSync('/usr/bin/time', command, { env, maxBuffer: 1 << 28 });
  const seconds = ((performance.now() - begun) / 1000).toFixed(1);
  const rssMb = Math.round(Number(readFileSync(rssFile, 'utf8').trim()) / 1024);
  const { plan, damaged, seconds: _, ...report } = JSON.parse(stdout);
  console.log(
    `${what}: ${seconds} s, ${rssMb} MiB RSS, exit ${status}, ${plan?.length} steps, ${damaged?.length} damaged`,
  );
  console.log(`  ${JSON.stringify(report)}${stderr}`);
}

const begun = performance.now();
await makeStore();
const made = `${GUESTS * NIGHTS} backups of ${CLUSTERS} clusters`;
console.log(`made ${made} in ${((performance.now() - begun) / 1000).toFixed(0)} s`);
measure('dry run', ['--dry-run']);
measure('gc that joins small packs', []);
await forgetFirst(Math.ceil(NIGHTS / 2));
measure('gc after half of the nights were forgotten', []);
measure('gc with nothing to do', []);
if (!values.keep) rmSync(values.directory, { recursive: true, force: true });
