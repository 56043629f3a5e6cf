// SPDX-License-Identifier: MIT
// The disks of a running guest as what a backup reads.

import { fileURLToPath } from 'node:url';
import { createQemuSource, type QemuHost } from '../../plugins/source-qemu/source-qemu.js';
import { DirtyBitmap } from '../block/dirty-bitmap.js';
import { ReadOnceDevice } from '../block/filters/read-once.js';
import type { BackupJobDisk } from '../jobs/backup-job.js';
import { openNbdDevice } from '../nbd/client/nbd-client.js';
import type { DumpSink, GuestSnapshot, GuestSurvey, SnapshotDisk } from '../plugin-api.js';
import { checkFeatures } from '../qmp/features.js';
import { runGuarded } from '../qmp/guardian.js';
import { openMonitor } from '../qmp/open-monitor.js';
import { formatGuest } from '../store/backup-id.js';
import type { Datastore } from '../store/datastore.js';
import type { BackupInput } from './backup-input.js';
import type { BackupWish } from './backup-wish.js';
import type { Context } from './context.js';
import type { GuestWish } from './guest-wish.js';
import { Paranoia } from './paranoid.js';
import { previousBitmaps } from './previous-bitmaps.js';

/** Lies beside this program, bundled or not. */
const GUARDIAN = fileURLToPath(new URL('./qmp-guardian.js', import.meta.url));
/** Not /tmp, which may be in memory. */
const FLEECE_DIRECTORY = '/var/tmp';
const AGENT = { syncMillis: 5000, freezeMillis: 30_000 };
const EXPORT_CONNECTIONS = 4;
/** What changed is rarely zero, and rarely much in one place. */
const LEAST_ASKED_BYTES = 1 << 20;

/** The guest's lock is held, where `store` is given. */
export async function openGuest(
  context: Context,
  wish: BackupWish,
  live: GuestWish,
  store: Datastore | undefined,
  clusterSizeBytes: number,
  signal: AbortSignal,
): Promise<BackupInput> {
  const { address, include, exclude, agentPath, fleeceDirectory = FLEECE_DIRECTORY } = live;
  const source = createQemuSource(qemuHost(context), {
    ...{ address, include, exclude, fleeceDirectory },
    guest: formatGuest(wish.guest),
    ...(agentPath === undefined ? {} : { agent: { path: agentPath, ...AGENT } }),
  });
  const survey = await source.survey();
  for (const { name, reason } of survey.skipped) context.log.info(`${name} is not backed up: ${reason}`);
  const bitmaps = store === undefined ? undefined : await previousBitmaps(store, wish.guest, survey.disks);
  const snapshot = await source.snapshot({
    ...{ clusterSizeBytes, signal },
    ...(bitmaps === undefined ? {} : { bitmaps }),
  });
  try {
    const paranoia = live.paranoid && store !== undefined ? await Paranoia.open(store, wish.guest) : undefined;
    return await asInput(context, survey, snapshot, paranoia, clusterSizeBytes);
  } catch (error) {
    await snapshot.end('failed').catch(() => {});
    throw error;
  }
}

function qemuHost({ log }: Context): QemuHost {
  return {
    openMonitor: (address, signal) => openMonitor(address, { signal }),
    checkFeatures,
    runWindow: (plan, signal) => runGuarded(GUARDIAN, plan, signal),
    // A QEMU that has gone does not come back with the same snapshot.
    openExport: (uri, options) =>
      openNbdDevice(uri, { ...options, log, readOnly: false, connections: EXPORT_CONNECTIONS, reconnectMillis: 0 }),
    uid: process.getuid?.(),
    log,
  };
}

async function asInput(
  context: Context,
  survey: GuestSurvey,
  snapshot: GuestSnapshot,
  paranoia: Paranoia | undefined,
  clusterSizeBytes: number,
): Promise<BackupInput> {
  const changes: (DirtyBitmap | undefined)[] = [];
  for (const disk of snapshot.disks) changes.push(await readChanges(disk, clusterSizeBytes));
  tell(context, snapshot, changes);
  let sink: DumpSink | undefined;
  const freeUnchanged = () => {
    for (const [at, bitmap] of changes.entries()) {
      // Where the parent turned out to be of no use, all is read after all.
      if (bitmap !== undefined && paranoia === undefined && sink?.hasParent(at) === true)
        freeClean(devices[at]!, bitmap);
    }
  };
  let onUse: (() => void) | undefined = freeUnchanged;
  const devices = snapshot.disks.map(
    ({ device }, at) =>
      new ReadOnceDevice(device, {
        log: context.log,
        leastAskedBytes: changes[at] === undefined ? 0 : LEAST_ASKED_BYTES,
        onUse: () => {
          const first = onUse;
          onUse = undefined;
          first?.();
        },
      }),
  );
  const disks: BackupJobDisk[] = [];
  for (const [at, device] of devices.entries()) {
    const bitmap = changes[at];
    if (bitmap === undefined) disks.push({ device });
    else if (paranoia !== undefined) {
      disks.push({ device: await paranoia.watch(snapshot.disks[at]!.name, device, bitmap) });
    } else disks.push({ device, sync: { mode: 'incremental', bitmap: bitmap.snapshot(), afterwards: 'keep' } });
  }
  const { consistency } = snapshot;
  return {
    disks,
    description: {
      ...{ source: 'qemu', consistency },
      ...(survey.guestName === undefined ? {} : { guestName: survey.guestName }),
      ...(survey.guestUuid === undefined ? {} : { guestUuid: survey.guestUuid }),
      disks: snapshot.disks.map(({ name, sizeBytes, fullReason, bitmapName }) => ({
        ...{ name, kind: 'disk' as const, sizeBytes },
        ...(fullReason === undefined ? {} : { fullReason }),
        ...(bitmapName === undefined ? {} : { bitmapName }),
      })),
    },
    startsInto: (into) => {
      sink = into;
    },
    check: () => paranoia?.check(),
    close: async (outcome) => {
      for (const { device } of disks) await device.close();
      await paranoia?.close();
      await snapshot.end(outcome);
    },
  };
}

async function readChanges(
  { changes, sizeBytes }: SnapshotDisk,
  clusterSizeBytes: number,
): Promise<DirtyBitmap | undefined> {
  if (changes === undefined) return undefined;
  const bitmap = new DirtyBitmap(sizeBytes, clusterSizeBytes);
  for (let at = 0; at < sizeBytes; ) {
    for (const { offsetBytes, lengthBytes, dirty } of await changes(at, sizeBytes - at)) {
      if (dirty) bitmap.set(offsetBytes, lengthBytes);
      at = offsetBytes + lengthBytes;
    }
  }
  return bitmap;
}

/** Guests' writes there cost no copying from then on. */
function freeClean(device: ReadOnceDevice, bitmap: DirtyBitmap): void {
  for (let from = bitmap.nextClean(0); from !== undefined; ) {
    const to = bitmap.nextDirty(from) ?? bitmap.lengthBytes;
    device.giveUp({ offsetBytes: from, lengthBytes: to - from });
    from = to < bitmap.lengthBytes ? bitmap.nextClean(to) : undefined;
  }
}

function tell({ log }: Context, snapshot: GuestSnapshot, changes: readonly (DirtyBitmap | undefined)[]): void {
  const millis = (snapshot.pausedMicros / 1000).toFixed(1);
  if (snapshot.pausedMicros > 0) log.info(`the guest stood still for ${millis} ms`);
  if (snapshot.notFrozen !== undefined) {
    log.warn(`the file systems were not frozen, so the backup is crash-consistent: ${snapshot.notFrozen}`);
  }
  for (const [at, { name, fullReason }] of snapshot.disks.entries()) {
    const bitmap = changes[at];
    if (bitmap !== undefined) log.debug(`${name}: ${bitmap.dirtyBytes} bytes changed since the last backup`);
    else if (fullReason !== undefined) log.info(`${name} is read in full: ${fullReason}`);
  }
}
