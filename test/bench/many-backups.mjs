// SPDX-License-Identifier: MIT
// Commands that look at all backups, with very many of them: node test/bench/many-backups.mjs [BACKUPS [GUESTS [DIRECTORY]]].
// Makes a datastore of manifests (10000 of 20 guests, hourly, each of two disks and a config; every fifth with a sidecar) and
// as many small packs, and prints the best of five of each command's wall time, what the bare program takes among it, with
// the processor time of that run, which tells more on a busy machine. A backup of one cluster opens the datastore with its
// chunk index, which is there (warm) or has to be made of the tables of all packs (cold).

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chunkContext, createHasher, sealer } from '../../dist/formats/vmar/hash.js';
import { encodeManifest } from '../../dist/formats/vmar/manifest.js';
import { encodeSidecar } from '../../dist/formats/vmar/sidecar.js';
import { PackRoom } from '../../dist/src/archive/pack-room.js';
import { openDatastore } from '../../dist/src/store/datastore.js';
import { initDatastore } from '../../dist/src/store/init.js';
import { manifestPath, sidecarPath } from '../../dist/src/store/layout.js';
import { PackStream } from '../../dist/src/store/pack-stream.js';
import './environment.mjs';

const ROUNDS = 5;
const HOUR_SECONDS = 3600;
const VMAR = fileURLToPath(new URL('../../dist/bundle/cli/vmar.js', import.meta.url));
const [count = 10_000, guests = 20] = process.argv.slice(2, 4).map(Number);
const directory = mkdtempSync(join(process.argv[4] ?? tmpdir(), 'vmar-bench-'));
const root = join(directory, 'store');

function manifestOf(ref, sequence) {
  const none = new Uint8Array(0);
  const bytes = (length, salt) => Buffer.alloc(length, `${ref.guestId} ${sequence} ${salt}`);
  const disk = (name) => ({
    name,
    kind: 'disk',
    sizeBytes: 32 * 2 ** 30,
    clusterSizeBytes: 65536,
    mapRoot: bytes(32, name),
    bitmapName: '',
    fullReason: '',
    readBytes: 2 ** 30,
    zeroBytes: 0,
    unchangedBytes: 31 * 2 ** 30,
    newBytes: 2 ** 30,
    storedBytes: 2 ** 29,
    forceShared: false,
  });
  const packs = Array.from({ length: 8 }, (_, i) => bytes(16, i).toString('hex'));
  return {
    ...ref,
    guestName: 'web',
    guestUuid: bytes(16, 'uuid'),
    sequence,
    previousDigest: none,
    source: 'image',
    sourceUuid: none,
    disks: [disk('scsi0'), disk('scsi1')],
    configs: [{ name: '100.conf', content: Buffer.alloc(800, 'memory: 4096\n') }],
    consistency: 'crash',
    packs: [...new Set(packs)].sort(),
    writerId: bytes(16, 'writer'),
    writer: 'vmar bench',
    storeUuid: bytes(16, 'store'),
    hash: 'blake3',
    mapFanout: 128,
    startedMillis: ref.timeSeconds * 1000,
    finishedMillis: ref.timeSeconds * 1000,
  };
}

async function makeStore() {
  const start = Math.floor(Date.now() / 1000) - Math.ceil(count / guests) * HOUR_SECONDS;
  await initDatastore(root, {
    clusterSizeBytes: 65536,
    hash: 'blake3',
    mapFanout: 128,
    timeSeconds: start,
    createdBy: 'bench',
  });
  for (let i = 0; i < count; i++) {
    const sequence = Math.floor(i / guests) + 1;
    const timeSeconds = start + sequence * HOUR_SECONDS;
    const ref = { namespace: '', guestType: 'vm', guestId: String(100 + (i % guests)), timeSeconds };
    const bytes = encodeManifest(manifestOf(ref, sequence));
    if (i < guests) mkdirSync(dirname(manifestPath(root, ref)), { recursive: true });
    writeFileSync(manifestPath(root, ref), bytes);
    if (i % 5 > 0) continue;
    const labels = new Map([['job', 'nightly']]);
    const sidecar = { manifestDigest: bytes.subarray(-32), labels, notes: '', isProtected: i % 500 === 0 };
    writeFileSync(sidecarPath(root, ref), encodeSidecar(sidecar, 'blake3'));
  }
}

/** One chunk each. */
async function makePacks() {
  const store = await openDatastore(root, { cacheDir: join(directory, 'cache') });
  const session = await store.beginSession('backup');
  const room = new PackRoom(store, session, Buffer.alloc(16), async () => {});
  const seal = sealer('blake3');
  const hasher = createHasher('blake3', chunkContext(0));
  for (let i = 0; i < count; i++) {
    const bytes = Buffer.alloc(16, `${i} `);
    const stream = new PackStream(room, 1);
    const entry = { codec: 0, storedBytes: 16, rawBytes: 16, seal: seal(bytes), chunkCount: 1 };
    const chunk = { id: hasher.digest(bytes), lengthBytes: 16, kind: 0, disk: 0, where: i };
    await stream.add({ entry, bytes, chunks: [chunk] }, () => {});
    await stream.finish();
  }
  await session.end();
  await store.close();
}

function best(words, isCold = false) {
  const env = { ...process.env, VMAR_DATASTORE: root, VMAR_CACHE_DIR: join(directory, 'cache') };
  const timeFile = join(directory, 'time');
  const runs = Array.from({ length: ROUNDS }, () => {
    if (isCold) rmSync(join(directory, 'cache'), { recursive: true, force: true });
    const start = performance.now();
    const command = ['-q', '-f', '%U %S', '-o', timeFile, process.execPath, VMAR, ...words];
    const { status, stderr } = spawnSync('/usr/bin/time', command, { env, maxBuffer: 2 ** 30 });
    if (status !== 0) throw new Error(`vmar ${words.join(' ')}: ${stderr}`);
    const seconds = (performance.now() - start) / 1000;
    const [user, system] = readFileSync(timeFile, 'utf8').trim().split(' ').map(Number);
    return { seconds, processor: user + system };
  });
  return runs.reduce((a, b) => (b.seconds < a.seconds ? b : a));
}

function tell(what, { seconds, processor }) {
  console.log(`${seconds.toFixed(3)} s, ${processor.toFixed(2)} s of processor time  ${what}`);
}

const KEEP = ['--keep-last', '3', '--keep-daily', '7', '--keep-weekly', '4', '--keep-monthly', '12'];
const COMMANDS = [
  ['--version'],
  ['list'],
  ['--json', 'list'],
  ['prune', '--dry-run', ...KEEP],
  ['--json', 'prune', '--dry-run', ...KEEP],
  ['status'],
  ['show', '100/latest'],
];
try {
  await makeStore();
  await makePacks();
  for (const words of COMMANDS) tell(`vmar ${words.join(' ')}`, best(words));
  const image = join(directory, 'image.raw');
  writeFileSync(image, Buffer.alloc(65536, 'x'));
  const backup = ['backup', 'new', '--disk', `d=${image}`];
  tell('vmar backup, cold', best(backup, true));
  tell('vmar backup, warm', best(backup));
} finally {
  rmSync(directory, { recursive: true });
}
