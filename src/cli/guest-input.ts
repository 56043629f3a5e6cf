// SPDX-License-Identifier: MIT
// The disks of a running guest as what a backup reads.

import { fileURLToPath } from 'node:url';
import { createQemuSource, type QemuHost } from '../../plugins/source-qemu/source-qemu.js';
import { REAL_CLOCK } from '../base/clock.js';
import { BusyError } from '../base/errors.js';
import { DirtyBitmap } from '../block/dirty-bitmap.js';
import { ReadOnceDevice } from '../block/filters/read-once.js';
import type { BackupJobDisk } from '../jobs/backup-job.js';
import { openNbdDevice } from '../nbd/client/nbd-client.js';
import type { DumpSink, GuestSnapshot, GuestSource, GuestSurvey, SnapshotDisk } from '../plugin-api.js';
import { checkFeatures } from '../qmp/features.js';
import { Guardian } from '../qmp/guardian.js';
import { openMonitor } from '../qmp/open-monitor.js';
import { formatGuest } from '../store/backup-id.js';
import type { Datastore } from '../store/datastore.js';
import type { BackupInput } from './backup-input.js';
import type { BackupWish } from './backup-wish.js';
import type { Context } from './context.js';
import type { GuestWish } from './guest-wish.js';
import { tellOutside } from './outside-report.js';
import { Paranoia } from './paranoid.js';
import { type PreviousBitmaps, previousBitmaps } from './previous-bitmaps.js';

/** Lies beside this program, bundled or not. */
const GUARDIAN = fileURLToPath(new URL('./qmp-guardian.js', import.meta.url));
/** Not /tmp, which may be in memory. */
const FLEECE_DIRECTORY = '/var/tmp';
const AGENT = { syncMillis: 5000, freezeMillis: 30_000 };
const EXPORT_CONNECTIONS = 4;
/** Between looks at a guest that another vmar backs up. */
const LOOK_AGAIN_MILLIS = 500;
/** What changed is rarely zero, and rarely much in one place. */
const LEAST_ASKED_BYTES = 1 << 20;

/** To be ended in any case. */
export function newGuardian(): Guardian {
  return Guardian.start(GUARDIAN);
}

/** A guest that is to be backed up; what takes its time to begin has begun. */
export class GuestToBe {
  readonly #context: Context;
  readonly #wish: BackupWish;
  readonly #live: GuestWish;
  readonly #source: GuestSource;
  #survey: Promise<GuestSurvey> | undefined;
  /** Until when a backup of the guest by another vmar is waited for. */
  readonly #endMillis: number;

  constructor(context: Context, wish: BackupWish, live: GuestWish, guardian: Guardian) {
    const { address, include, exclude, agentPath, fleeceDirectory = FLEECE_DIRECTORY } = live;
    this.#context = context;
    this.#wish = wish;
    this.#live = live;
    this.#source = createQemuSource(qemuHost(context, guardian), {
      ...{ address, include, exclude, fleeceDirectory },
      guest: formatGuest(wish.guest),
      ...(agentPath === undefined ? {} : { agent: { path: agentPath, ...AGENT } }),
    });
    this.#endMillis = REAL_CLOCK.monotonicMillis() + wish.waitSeconds * 1000;
    // Who waits for another backup of the guest to end is not to meet what that has put into it.
    if (wish.waitSeconds === 0) this.#look().catch(() => {});
  }

  #look(): Promise<GuestSurvey> {
    this.#survey ??= this.#source.survey();
    return this.#survey;
  }

  /**
   * Another vmar may back the guest up into another datastore, which no lock of this one tells. Whoever waits for that does
   * it before taking locks, which others wait for.
   */
  async untilFree(signal: AbortSignal): Promise<void> {
    if (this.#wish.waitSeconds === 0) return;
    await this.#patiently(() => this.#look(), signal);
    // It will be old when the locks are had.
    this.#survey = undefined;
  }

  /** The guest's lock is held, where `store` is given. */
  async open(place: GuestPlace, signal: AbortSignal): Promise<BackupInput> {
    return await this.#patiently(() => this.#openNow(place, signal), signal);
  }

  async #patiently<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        const isBusy = error instanceof BusyError && error.code === 'guest-busy';
        if (!isBusy || REAL_CLOCK.monotonicMillis() >= this.#endMillis) throw error;
      }
      this.#survey = undefined;
      await REAL_CLOCK.sleep(LOOK_AGAIN_MILLIS, signal);
    }
  }

  async #openNow({ store, clusterSizeBytes, distrust }: GuestPlace, signal: AbortSignal): Promise<BackupInput> {
    const survey = await this.#look();
    const context = this.#context;
    for (const { name, reason } of survey.skipped) context.log.info(`${name} is not backed up: ${reason}`);
    const notKept = await tellOutside(context, survey.outside, this.#wish.blobs);
    const { guest } = this.#wish;
    const before = store === undefined ? undefined : await previousBitmaps(store, guest, survey.disks, distrust);
    const snapshot = await this.#source.snapshot({
      ...{ clusterSizeBytes, signal },
      ...(before === undefined ? {} : { bitmaps: before.bitmaps }),
    });
    try {
      const isIncremental = snapshot.disks.some(({ changes }) => changes !== undefined);
      const isParanoid = this.#live.paranoid && store !== undefined && isIncremental;
      const paranoia = isParanoid ? await Paranoia.open(store, guest) : undefined;
      const damaged = before?.damaged ?? new Map();
      const input = await asInput(context, survey, snapshot, paranoia, clusterSizeBytes, damaged);
      const { pausedMicros, consistency } = snapshot;
      const { skipped, facts } = survey;
      return { ...input, configs: [facts], live: { pausedMicros, consistency, skipped, notKept } };
    } catch (error) {
      await snapshot.end('failed').catch(() => {});
      throw error;
    }
  }
}

/** Where the guest is backed up to. */
export interface GuestPlace {
  readonly store: Datastore | undefined;
  readonly clusterSizeBytes: number;
  /** Why nothing may rest on the latest backup. */
  readonly distrust: string | undefined;
}

function qemuHost({ log }: Context, guardian: Guardian): QemuHost {
  return {
    openMonitor: (address, signal) => openMonitor(address, { signal }),
    checkFeatures,
    runWindow: (plan, signal) => guardian.run(plan, signal),
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
  damaged: PreviousBitmaps['damaged'],
): Promise<BackupInput> {
  const changes: (DirtyBitmap | undefined)[] = [];
  for (const disk of snapshot.disks) changes.push(await readChanges(disk, clusterSizeBytes));
  tell(context, snapshot, changes);
  for (const [at, { name }] of snapshot.disks.entries()) readAgain(context, name, changes[at], damaged.get(name) ?? []);
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
      disks: snapshot.disks.map(({ name, sizeBytes, fullReason, bitmapName }, at) => ({
        ...{ name, kind: 'disk' as const, sizeBytes },
        ...(disks[at]?.sync === undefined ? {} : { restsOnParent: true }),
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

/** What the last backup has damaged counts as changed. */
function readAgain(
  { log }: Context,
  name: string,
  bitmap: DirtyBitmap | undefined,
  ranges: readonly { readonly offsetBytes: number; readonly lengthBytes: number }[],
): void {
  if (bitmap === undefined || ranges.length === 0) return;
  for (const { offsetBytes, lengthBytes } of ranges) bitmap.set(offsetBytes, lengthBytes);
  const bytes = ranges.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
  log.info(`${name}: ${bytes} bytes that did not change are read again: the last backup is damaged there`);
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
  if (snapshot.notFrozen !== undefined) {
    log.warn(`the file systems were not frozen, so the backup is crash-consistent: ${snapshot.notFrozen}`);
  }
  for (const [at, { name, fullReason }] of snapshot.disks.entries()) {
    const bitmap = changes[at];
    if (bitmap !== undefined) log.debug(`${name}: ${bitmap.dirtyBytes} bytes changed since the last backup`);
    else if (fullReason !== undefined) log.info(`${name} is read in full: ${fullReason}`);
  }
}
