// SPDX-License-Identifier: MIT
// Source of the disks of a guest that runs, as they are at one moment: through QEMU's monitor.

import { BugError, FailedError } from '../../src/base/errors.js';
import type { Log } from '../../src/base/log.js';
import {
  type BlockDevice,
  type DirtyStretch,
  type GuestSnapshot,
  type GuestSource,
  type GuestSurvey,
  type Monitor,
  type MonitorAddress,
  refuseMigrating,
  type SnapshotWish,
  type WindowPlan,
  type WindowReport,
} from '../../src/plugin-api.js';
import { type DiskChoice, type FoundDisks, findDisks } from './find-disks.js';
import { refuseUnfit } from './fitness.js';
import { FACTS_NAME, guestFacts } from './guest-facts.js';
import { refuseUnsafe } from './iothreads.js';
import { findOutside } from './outside.js';
import { takeSnapshot } from './snapshot.js';
import { sweepDead } from './sweep.js';

/** An export with a dirty bitmap. */
export interface ExportDevice extends BlockDevice {
  dirtyStatus(offsetBytes: number, lengthBytes: number): Promise<readonly DirtyStretch[]>;
}

/** What the plugin needs from vmar. */
export interface QemuHost {
  openMonitor(address: MonitorAddress, signal: AbortSignal | undefined): Promise<Monitor>;
  /** Rejects if the QEMU is too old for a live backup. */
  checkFeatures(monitor: Monitor): Promise<unknown>;
  /** Does the plan in a process that outlives this one; see WindowPlan. */
  runWindow(plan: WindowPlan, signal: AbortSignal | undefined): Promise<WindowReport>;
  openExport(
    uri: string,
    options: { readonly name: string; readonly bitmap?: string; readonly signal?: AbortSignal },
  ): Promise<ExportDevice>;
  /** Of this process. */
  readonly uid: number | undefined;
  readonly log: Log;
}

export interface QemuOptions extends DiskChoice {
  readonly address: MonitorAddress;
  /** Namespace and id, for the names of what is put into the guest. */
  readonly guest: string;
  /** Where the fleecing files go. */
  readonly fleeceDirectory: string;
  readonly agent?: { readonly path: string; readonly syncMillis: number; readonly freezeMillis: number };
}

export function createQemuSource(host: QemuHost, options: QemuOptions): GuestSource {
  return new QemuSource(host, options);
}

class QemuSource implements GuestSource {
  readonly #host: QemuHost;
  readonly #options: QemuOptions;
  #found: FoundDisks | undefined;

  constructor(host: QemuHost, options: QemuOptions) {
    this.#host = host;
    this.#options = options;
  }

  async survey(): Promise<GuestSurvey> {
    const { address, include, exclude } = this.#options;
    const monitor = await this.#host.openMonitor(address, undefined);
    try {
      await this.#host.checkFeatures(monitor);
      await refuseMigrating(monitor, 'Wait for it to end, and back the guest up where it runs then.');
      if (await sweepDead(monitor)) {
        this.#host.log.warn('took away what an earlier backup left in the guest when it was killed');
      }
      const found = await findDisks(monitor, { include, exclude });
      await refuseUnfit(monitor, found.disks);
      await refuseUnsafe(monitor, found.disks);
      this.#found = found;
      return {
        disks: found.disks.map(({ name, sizeBytes }) => ({ name, sizeBytes })),
        skipped: found.skipped,
        outside: await findOutside(monitor),
        facts: { name: FACTS_NAME, content: await guestFacts(monitor) },
        ...(await identity(monitor)),
      };
    } finally {
      await monitor.close();
    }
  }

  async snapshot(wish: SnapshotWish): Promise<GuestSnapshot> {
    if (this.#found === undefined) throw new BugError('a guest is surveyed first');
    return await takeSnapshot(this.#host, this.#options, this.#found.disks, wish);
  }
}

/** A storage daemon has neither. */
async function identity(monitor: Monitor): Promise<Pick<GuestSurvey, 'guestName' | 'guestUuid'>> {
  try {
    const { name } = await monitor.execute('query-name', {});
    const { uuid } = await monitor.execute('query-uuid', {});
    const bytes = Buffer.from(uuid.replaceAll('-', ''), 'hex');
    const isKnown = bytes.length === 16 && bytes.some((byte) => byte !== 0);
    return { guestName: name || undefined, guestUuid: isKnown ? bytes : undefined };
  } catch (error) {
    if (error instanceof FailedError && error.code === 'qmp-command-failed') {
      return { guestName: undefined, guestUuid: undefined };
    }
    throw error;
  }
}
