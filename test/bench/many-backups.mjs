// SPDX-License-Identifier: MIT
// Commands that look at all backups, with very many of them: node test/bench/many-backups.mjs [BACKUPS [GUESTS [DIRECTORY]]].
// Makes a datastore of manifests only (10000 of 20 guests, hourly, each of two disks and a config; every fifth with a
// sidecar) and prints the best of five of each command's wall time, what the bare program takes among it.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { encodeManifest } from '../../dist/formats/vmar/manifest.js';
import { encodeSidecar } from '../../dist/formats/vmar/sidecar.js';
import { initDatastore } from '../../dist/src/store/init.js';
import { manifestPath, sidecarPath } from '../../dist/src/store/layout.js';

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

function best(words) {
  const env = { ...process.env, VMAR_DATASTORE: root, VMAR_CACHE_DIR: join(directory, 'cache') };
  const seconds = Array.from({ length: ROUNDS }, () => {
    const start = performance.now();
    const { status, stderr } = spawnSync(process.execPath, [VMAR, ...words], { env, maxBuffer: 2 ** 30 });
    if (status !== 0) throw new Error(`vmar ${words.join(' ')}: ${stderr}`);
    return (performance.now() - start) / 1000;
  });
  return Math.min(...seconds);
}

const KEEP = ['--keep-last', '3', '--keep-daily', '7', '--keep-weekly', '4', '--keep-monthly', '12'];
const COMMANDS = [
  ['--version'],
  ['list'],
  ['--json', 'list'],
  ['prune', '--dry-run', ...KEEP],
  ['--json', 'prune', '--dry-run', ...KEEP],
  ['status'],
];
try {
  await makeStore();
  for (const words of COMMANDS) {
    console.log(`${best(words).toFixed(3)} s  vmar ${words.join(' ')}`);
  }
} finally {
  rmSync(directory, { recursive: true });
}
