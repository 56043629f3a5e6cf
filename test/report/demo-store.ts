// SPDX-License-Identifier: MIT
// A datastore to show: some weeks of nights of five guests, each with ways of its own, with the reports of the jobs. In
// troubled ones nights fail, one is missed, a backup is damaged and a guest is overdue.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ArchiveSink } from '#vmar/src/archive/archive-sink.js';
import { openDatastoreVault } from '#vmar/src/archive/datastore-vault.js';
import { createMachine, type Machine } from '#vmar/src/archive/machine.js';
import type { JobGuest, JobReport } from '#vmar/src/nightly/history.js';
import { type DumpSink, ZERO } from '#vmar/src/plugin-api.js';
import { formatBackupId } from '#vmar/src/store/backup-id.js';
import { type Datastore, openDatastore } from '#vmar/src/store/datastore.js';
import { initDatastore } from '#vmar/src/store/init.js';
import { newReportPath, writeReport } from '#vmar/src/store/job-reports.js';
import { manifestPath } from '#vmar/src/store/layout.js';
import { listManifests } from '#vmar/src/store/manifests.js';
import { historyScope, saveHistory, VerifyHistory } from '#vmar/src/store/verify-history.js';
import { type Random, seededRandom } from '../base/random.js';

const CLUSTER = 65536;
const DAY_MILLIS = 86_400_000;
const HOUR_MILLIS = 3_600_000;

export interface DemoOptions {
  readonly nights: number;
  readonly nowMillis: number;
  readonly isTroubled: boolean;
  /** Where the store, its cache and vmar.yaml are put. */
  readonly directory: string;
}

export interface Demo {
  readonly root: string;
  readonly cacheDir: string;
  readonly configFile: string;
  readonly guests: readonly string[];
}

/** A disk as the numbers of what its clusters hold; 0 is zeros. */
type Disk = Uint32Array;

interface DemoGuest {
  readonly id: string;
  readonly name: string;
  readonly disks: ReadonlyMap<string, Disk>;
  /** What a day's work does to it. */
  readonly work: (random: Random, night: number, disks: ReadonlyMap<string, Disk>) => void;
}

let content = 1;

function write(disk: Disk, first: number, count: number): void {
  for (let at = first; at < Math.min(disk.length, first + count); at++) disk[at] = ++content;
}

function newDisk(clusters: number, used: number, from?: Disk): Disk {
  const disk = new Uint32Array(clusters);
  if (from === undefined) write(disk, 0, used);
  else disk.set(from.subarray(0, Math.min(used, clusters)));
  return disk;
}

/** Most guests come from one template; one is foreign. */
function makeGuests(): DemoGuest[] {
  const template = newDisk(1024, 130);
  const scattered = (random: Random, disk: Disk, writes: number, within: number): void => {
    for (let count = 0; count < writes; count++) write(disk, random.integer(0, within), random.integer(1, 2));
  };
  return [
    {
      id: '100',
      name: 'db <primary> & "co"',
      disks: new Map([
        ['scsi0', newDisk(1024, 150, template)],
        ['scsi1', newDisk(2048, 240)],
      ]),
      work(random, night, disks) {
        write(disks.get('scsi1')!, 40, 24);
        write(disks.get('scsi1')!, 240 + night * 12, 12);
        scattered(random, disks.get('scsi1')!, 8, 240);
        scattered(random, disks.get('scsi0')!, 3, 130);
      },
    },
    {
      id: '101',
      name: 'web',
      disks: new Map([['virtio0', newDisk(1024, 130, template)]]),
      work(random, night, disks) {
        write(disks.get('virtio0')!, 600 + night * 3, 3);
        scattered(random, disks.get('virtio0')!, 4, 130);
      },
    },
    {
      id: '102',
      name: 'mail',
      disks: new Map([['scsi0', newDisk(1536, 200, template)]]),
      work: (random, _night, disks) => scattered(random, disks.get('scsi0')!, 26, 1200),
    },
    {
      id: '103',
      name: 'windows-desktop',
      disks: new Map([['sata0', newDisk(2048, 260)]]),
      work(random, night, disks) {
        scattered(random, disks.get('sata0')!, 5, 400);
        if (night % 14 === 6) write(disks.get('sata0')!, 20, 190);
      },
    },
    { id: '104', name: 'idle', disks: new Map([['scsi0', newDisk(1024, 130, template)]]), work: () => {} },
  ];
}

const noise = seededRandom(4711).bytes(1 << 20);

function fill(slot: Uint8Array, number: number): void {
  const bytes = Buffer.from(slot.buffer, slot.byteOffset, slot.byteLength);
  bytes.fill(`cluster ${number} of a demonstration `);
  // A third does not compress.
  bytes.set(noise.subarray((number * 7919) % 900_000, ((number * 7919) % 900_000) + 21_000), 64);
  bytes.writeUInt32LE(number, 0);
}

async function dump(sink: DumpSink, index: number, disk: Disk): Promise<void> {
  for (let at = 0; at < disk.length; ) {
    let end = at + 1;
    if (disk[at] === 0) {
      while (end < disk.length && disk[end] === 0) end++;
      await sink.dumpRange(index, at, end - at, ZERO);
    } else {
      const slot = await sink.lease();
      fill(slot.subarray(0, CLUSTER), disk[at]!);
      await sink.dump(index, at, slot.subarray(0, CLUSTER));
    }
    at = end;
  }
}

async function backUp(store: Datastore, machine: Machine, guest: DemoGuest, timeSeconds: number): Promise<JobGuest> {
  const vault = await openDatastoreVault(store, { namespace: '', guestId: guest.id }, { waitSeconds: 0 });
  const sink = new ArchiveSink(vault, machine);
  const disks = [...guest.disks];
  await sink.begin({
    ...{ namespace: '', guestId: guest.id, guestName: guest.name, timeSeconds, source: 'image', configs: [] },
    consistency: 'offline',
    disks: disks.map(([name, disk]) => ({ name, kind: 'disk' as const, sizeBytes: disk.length * CLUSTER })),
  });
  for (const [index, [, disk]] of disks.entries()) await dump(sink, index, disk);
  const result = await sink.finish();
  const sum = (of: (disk: (typeof result.disks)[number]) => number): number =>
    result.disks.reduce((all, disk) => all + of(disk), 0);
  return {
    ...{ guest: guest.id, outcome: 'ok', backup: result.backup, errorCode: '', error: '', attempts: 1 },
    ...{ startedMillis: timeSeconds * 1000, finishedMillis: timeSeconds * 1000 + 90_000 },
    sizeBytes: disks.reduce((all, [, disk]) => all + disk.length * CLUSTER, 0),
    ...{ readBytes: sum((disk) => disk.readBytes), zeroBytes: sum((disk) => disk.zeroBytes) },
    unchangedBytes: sum((disk) => disk.unchangedBytes),
    ...{ newBytes: sum((disk) => disk.newBytes), storedBytes: sum((disk) => disk.storedBytes) },
  };
}

function failed(guest: DemoGuest, millis: number, error: string): JobGuest {
  return {
    ...{ guest: guest.id, outcome: 'failed', backup: '', errorCode: 'qmp-gone', error, attempts: 3 },
    ...{ startedMillis: millis, finishedMillis: millis + 600_000 },
    ...{ sizeBytes: 0, readBytes: 0, zeroBytes: 0, unchangedBytes: 0, newBytes: 0, storedBytes: 0 },
  };
}

/** Errors are told as they come; some guests name things to break a page with. */
const HOSTILE = '<script>alert(1)</script><img src="http://evil.example/x.png" onerror="alert(2)">';

export async function makeDemo(options: DemoOptions): Promise<Demo> {
  const { directory, nights, nowMillis, isTroubled } = options;
  const [root, cacheDir] = [join(directory, 'store'), join(directory, 'cache')];
  const today = new Date(nowMillis);
  // Today has had its night already, whatever the time of day: no backup is of the future.
  const hour = today.getHours() > 2 ? 2 : 0;
  const nightMillis = (night: number): number =>
    new Date(today.getFullYear(), today.getMonth(), today.getDate() - (nights - 1 - night), hour).getTime();
  const settings = { clusterSizeBytes: CLUSTER, hash: 'blake3', mapFanout: 128, createdBy: 'demo' } as const;
  await initDatastore(root, { ...settings, timeSeconds: Math.floor(nightMillis(0) / 1000) });
  const store = await openDatastore(root, { cacheDir });
  const machine = createMachine({ hash: 'blake3', level: 1, clusterSizeBytes: CLUSTER, workers: 0 });
  const guests = makeGuests();
  const random = seededRandom(2026);
  try {
    for (let night = 0; night < nights; night++) {
      for (const { work, disks } of guests) if (night > 0) work(random, night, disks);
      // The host was off.
      if (isTroubled && night === nights - 17) continue;
      const startedMillis = nightMillis(night);
      const done: JobGuest[] = [];
      for (const [index, guest] of guests.entries()) {
        const millis = Math.min(startedMillis + index * 240_000 + random.integer(0, 60) * 1000, nowMillis);
        const trouble = isTroubled ? troubleOf(guest, nights - 1 - night) : undefined;
        done.push(
          trouble === undefined
            ? await backUp(store, machine, guest, Math.floor(millis / 1000))
            : failed(guest, millis, trouble),
        );
      }
      await writeReport(store, newReportPath(root, startedMillis), reportOf(startedMillis, done));
    }
    await noteVerified(store, nowMillis - (isTroubled ? 2 * DAY_MILLIS : 600_000), isTroubled);
    if (isTroubled) await damageOne(root, nightMillis(nights - 6));
  } finally {
    await machine.close();
    await store.close();
  }
  const configFile = join(directory, 'vmar.yaml');
  const time = `0${hour}:00`;
  writeFileSync(configFile, configText(root, guests, time));
  return { root, cacheDir, configFile, guests: guests.map(({ id }) => `vm/${id}`) };
}

function troubleOf({ id }: DemoGuest, nightsAgo: number): string | undefined {
  if (id === '102' && nightsAgo <= 1) return "the guest's QEMU cannot be reached: connection refused";
  if (id === '101' && nightsAgo === 9) return `the disk cannot be read: input/output error in ${HOSTILE}`;
  return undefined;
}

function reportOf(startedMillis: number, guests: readonly JobGuest[]): JobReport {
  const isOk = guests.every(({ outcome }) => outcome === 'ok');
  return {
    ...{ job: 'nightly', kind: 'backup', host: 'pve1', writer: 'vmar demo', errorCode: '', error: '' },
    outcome: isOk ? 'ok' : 'failed',
    startedMillis,
    finishedMillis: startedMillis + 1_100_000 + (startedMillis % 7) * 60_000,
    guests,
    steps: [
      {
        ...{ step: 'prune', outcome: 'ok', errorCode: '', error: '', attempts: 1, summary: 'nothing to remove' },
        ...{ startedMillis, finishedMillis: startedMillis + 1000 },
      },
    ],
    warnings: [],
  };
}

/** As after a verify of all that was there then. */
async function noteVerified(store: Datastore, millis: number, isPartial: boolean): Promise<void> {
  const session = await store.beginSession('maintenance');
  const { entries } = await listManifests(store.root);
  const packs = new Set(await store.listPackIds());
  const history = VerifyHistory.empty();
  const known = isPartial ? entries.filter(({ ref }) => ref.timeSeconds * 1000 < millis) : entries;
  for (const pack of packs) history.noteRead(pack, millis);
  for (const { digest } of known) history.noteFollowed(digest, millis);
  const backups = entries.map(({ ref, digest, manifest }) => ({ backup: formatBackupId(ref), digest, manifest }));
  const scope = historyScope(packs, backups, ({ manifest }) => manifest.packs);
  await saveHistory(store, session, history, scope);
  await session.end();
}

/** One flipped bit in the manifest of guest 103's backup of that night. */
async function damageOne(root: string, nightMillis: number): Promise<void> {
  const { entries } = await listManifests(root);
  const one = entries.find(({ ref }) => {
    const sinceMillis = ref.timeSeconds * 1000 - nightMillis;
    return ref.guestId === '103' && sinceMillis >= 0 && sinceMillis < 12 * HOUR_MILLIS;
  });
  if (one === undefined) throw new Error('no such night');
  const bytes = readFileSync(manifestPath(root, one.ref));
  bytes[60]! ^= 1;
  writeFileSync(manifestPath(root, one.ref), bytes);
}

function configText(root: string, guests: readonly DemoGuest[], time: string): string {
  const disksOf = ({ disks }: DemoGuest): string => [...disks.keys()].map((name) => `${name}: /dev/null`).join(', ');
  return [
    `datastores: {main: ${JSON.stringify(root)}}`,
    'guests:',
    ...guests.map((guest) => `  "${guest.id}": {disks: {${disksOf(guest)}}}`),
    'jobs:',
    `  nightly: {guests: all, datastore: main, schedule: "${time}", retention: {daily: 14, weekly: 8}}`,
    '',
  ].join('\n');
}
