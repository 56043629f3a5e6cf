// SPDX-License-Identifier: MIT
// One snapshot of a guest: filters in, exports out, and everything away again at its end.
//
// The order, and why:
// 1. RUN_NODE keeps other runs out. Fleecing files and filters are made; they touch nothing yet.
// 2. The new bitmaps begin.
// 3. The window: the filters go under the guest's devices. That is the moment. The guest stands still only here.
// 4. The old bitmaps stop. Until then they recorded too much, which costs reading and nothing else.
// 5. Snapshot nodes and exports. (A snapshot node cannot be there before the filter is used.)
// The monitor is held in 1–2 and 4–5 and by the guardian in 3; then it is free until the end.

import { REAL_CLOCK } from '../../src/base/clock.js';
import { BusyError, FailedError } from '../../src/base/errors.js';
import type {
  ConsistencyKind,
  GuestSnapshot,
  Monitor,
  SnapshotDisk,
  SnapshotOutcome,
  SnapshotWish,
  WindowPlan,
  WindowReport,
} from '../../src/plugin-api.js';
import { type BitmapPlan, beginBitmaps, type DiskBitmaps, endBitmaps, planBitmaps, stopOldBitmaps } from './bitmaps.js';
import type { FoundDisk } from './find-disks.js';
import { notPossible } from './fitness.js';
import { GranuleDevice, isSnapshotSound } from './granule-device.js';
import { insertionSteps } from './insertion.js';
import { RUN_NODE, RunNames } from './names.js';
import { findNbdServer } from './nbd-server.js';
import { type Owner, ownerOf, RunDirectory } from './run-directory.js';
import { SnapshotDevice } from './snapshot-device.js';
import type { ExportDevice, QemuHost, QemuOptions } from './source-qemu.js';
import { guestBusy, sweep } from './sweep.js';

/** After so long a guest's write waits no longer for the fleecing file: the snapshot breaks, and with it the backup. */
const CBW_TIMEOUT_SECONDS = 45;
/** Each attempt takes seconds. */
const LEAVING_MILLIS = 60_000;
const WINDOW_COMMAND_MILLIS = 20_000;
/** A little more than a backup opens for each disk. */
const CONNECTIONS_PER_DISK = 6;

/** If it rejects nothing is left in the guest, as far as could be seen to. */
export async function takeSnapshot(
  host: QemuHost,
  options: QemuOptions,
  disks: readonly FoundDisk[],
  wish: SnapshotWish,
): Promise<GuestSnapshot> {
  const snapshot = new Snapshot(host, options, disks, wish);
  try {
    return await snapshot.take();
  } catch (error) {
    await snapshot.end('failed').catch((second: unknown) => {
      host.log.warn(`something may be left in the guest; the next backup takes it away: ${messageOf(second)}`);
    });
    throw error;
  }
}

/** The NBD server that exports the snapshot. */
interface Server {
  readonly socketPath: string;
  /** We started it. */
  readonly isOurs: boolean;
}

class Snapshot {
  readonly #host: QemuHost;
  readonly #options: QemuOptions;
  readonly #disks: readonly FoundDisk[];
  readonly #wish: SnapshotWish;
  readonly #names: RunNames;
  #directory: RunDirectory | undefined;
  /** Descriptors of the fleecing files, where they are needed to read the snapshot right. */
  #fleeces: readonly number[] | undefined;
  /** We are the run that RUN_NODE stands for: what is there is ours to take away. */
  #isInside = false;
  #server: Server | undefined;
  #bitmaps: readonly DiskBitmaps[] = [];
  #devices: ExportDevice[] = [];

  constructor(host: QemuHost, options: QemuOptions, disks: readonly FoundDisk[], wish: SnapshotWish) {
    this.#host = host;
    this.#options = options;
    this.#disks = disks;
    this.#wish = wish;
    this.#names = new RunNames(options.guest);
  }

  async take(): Promise<GuestSnapshot> {
    const { signal } = this.#wish;
    const plans = await this.#withMonitor((monitor) => this.#prepare(monitor), signal);
    const report = await this.#host.runWindow(this.#window(), signal);
    await this.#withMonitor((monitor) => this.#open(monitor), signal);
    const opening = this.#disks.map((_, at) => this.#openDisk(at, plans[at]));
    // All of them are ours to close before any error is told.
    await Promise.allSettled(opening);
    const disks = await Promise.all(opening);
    return { disks, ...told(report), end: (outcome) => this.end(outcome) };
  }

  async #prepare(monitor: Monitor): Promise<readonly BitmapPlan[]> {
    const owner = await this.#owner();
    this.#directory = await RunDirectory.make(this.#options.fleeceDirectory, this.#names.directory, owner);
    await this.#enter(monitor, this.#directory.lockPath);
    const fleeces: number[] = [];
    for (const at of this.#disks.keys()) fleeces.push(await this.#makeFilter(monitor, this.#directory, at));
    if (!isSnapshotSound(await monitor.execute('query-version', {}))) this.#fleeces = fleeces;
    return await this.#beginBitmaps(monitor);
  }

  /** Gives a descriptor of its fleecing file. */
  async #makeFilter(monitor: Monitor, directory: RunDirectory, at: number): Promise<number> {
    const { name, node, sizeBytes } = this.#disks[at]!;
    const { path: filename, fd } = await directory.makeFleece(at, sizeBytes);
    const fleece = this.#names.of('fleece', at);
    await monitor.execute('blockdev-add', { driver: 'file', 'node-name': fleece, filename, discard: 'unmap' });
    try {
      await monitor.execute('blockdev-add', {
        driver: 'copy-before-write',
        'node-name': this.#names.of('cbw', at),
        file: node.nodeName,
        target: fleece,
        discard: 'unmap',
        'on-cbw-error': 'break-snapshot',
        'cbw-timeout': CBW_TIMEOUT_SECONDS,
      });
    } catch (error) {
      if (!(error instanceof FailedError && error.code === 'qmp-command-failed')) throw error;
      throw notPossible(monitor.name, name, `${error.message} (driver ${node.driver})`);
    }
    return fd;
  }

  async #beginBitmaps(monitor: Monitor): Promise<readonly BitmapPlan[]> {
    const { bitmaps, clusterSizeBytes } = this.#wish;
    if (bitmaps === undefined) return [];
    // As they are now, not as the survey found them: it holds no lock.
    const nodes = await monitor.execute('query-named-block-nodes', { flat: true });
    const plans = this.#disks.map(({ name, node }) => {
      const now = nodes.find(({ nodeName }) => nodeName === node.nodeName) ?? node;
      return planBitmaps(now, bitmaps.prefix, bitmaps.previous.get(name), clusterSizeBytes);
    });
    this.#bitmaps = plans.map(({ disk }) => disk);
    await beginBitmaps(monitor, plans, bitmaps.name, clusterSizeBytes);
    return plans;
  }

  /** Of two runs that come at the same time QEMU lets in one. */
  async #enter(monitor: Monitor, lockPath: string): Promise<void> {
    try {
      const lock = { driver: 'file', 'node-name': RUN_NODE, filename: lockPath, 'read-only': true } as const;
      await monitor.execute('blockdev-add', lock);
      this.#isInside = true;
    } catch (error) {
      if (error instanceof FailedError && /duplicate|already/i.test(error.message)) throw guestBusy(monitor.name);
      if (error instanceof FailedError && error.code === 'qmp-command-failed') throw notReachable(error, lockPath);
      throw error;
    }
  }

  #window(): WindowPlan {
    const { address, agent } = this.#options;
    const steps = insertionSteps(this.#disks, (at) => this.#names.of('cbw', at));
    return {
      monitor: address,
      ...(agent === undefined ? {} : { agent }),
      // Raw nodes change all at one moment, and QEMU holds their requests back meanwhile.
      pause: this.#disks.some(({ insertion }) => insertion.kind === 'device'),
      mark: this.#names.of('mark'),
      steps,
      commandMillis: WINDOW_COMMAND_MILLIS,
    };
  }

  async #open(monitor: Monitor): Promise<void> {
    await stopOldBitmaps(monitor, this.#bitmaps);
    for (const [at, { sizeBytes }] of this.#disks.entries()) {
      const access = this.#names.of('access', at);
      const file = this.#names.of('cbw', at);
      await holdSize(monitor, this.#names.of('size', at), file, sizeBytes);
      await monitor.execute('blockdev-add', { driver: 'snapshot-access', 'node-name': access, file, discard: 'unmap' });
    }
    // After the snapshot nodes: who finds these knows that the server may be ours.
    const server = await this.#startServer(monitor);
    this.#server = server;
    const role = server.isOurs ? 'export' : 'visit';
    for (const [at, { node }] of this.#disks.entries()) {
      const previous = this.#bitmaps[at]?.previous;
      await monitor.execute('block-export-add', {
        type: 'nbd',
        id: this.#names.of(role, at),
        'node-name': this.#names.of('access', at),
        name: this.#names.of('export', at),
        // For discards: see SnapshotDisk.device.
        writable: true,
        ...(previous === undefined ? {} : { bitmaps: [{ node: node.nodeName, name: previous }] }),
      });
    }
  }

  /** Or goes in with one that is there. */
  async #startServer(monitor: Monitor): Promise<Server> {
    const { socketPath } = this.#need;
    const connections = CONNECTIONS_PER_DISK * this.#disks.length;
    try {
      const addr = { type: 'unix', data: { path: socketPath } } as const;
      await monitor.execute('nbd-server-start', { addr, 'max-connections': connections });
      return { socketPath, isOurs: true };
    } catch (error) {
      if (!(error instanceof FailedError && /already running/i.test(error.message))) throw error;
      const { address } = this.#options;
      const found = address.kind === 'socket' ? await findNbdServer(monitor, address.path) : undefined;
      if (found !== undefined) return { socketPath: found, isOurs: false };
      throw new BusyError('nbd-in-use', "QEMU's NBD server is in use by another program, and it has only one", {
        object: monitor.name,
        advice: 'Wait for the other backup or migration to end, or stop it with nbd-server-stop.',
      });
    }
  }

  async #openDisk(at: number, plan: BitmapPlan | undefined): Promise<SnapshotDisk> {
    const { name, sizeBytes } = this.#disks[at]!;
    const { signal, bitmaps } = this.#wish;
    const bitmap = plan?.disk.previous;
    const device = await this.#host.openExport(
      `nbd+unix:///${this.#names.of('export', at)}?socket=${encodeURIComponent(this.#server!.socketPath)}`,
      {
        name: `${name} of ${this.#options.guest}`,
        ...(bitmap === undefined ? {} : { bitmap }),
        ...(signal === undefined ? {} : { signal }),
      },
    );
    this.#devices.push(device);
    if (device.lengthBytes !== sizeBytes) throw resized(name, sizeBytes, device.lengthBytes);
    const fullReason = plan?.disk.fullReason;
    const fleece = this.#fleeces?.[at];
    const readable = fleece === undefined ? device : new GranuleDevice(device, fleece);
    const snapshot = new SnapshotDevice(readable, this.#need.path);
    return {
      ...{ name, sizeBytes, device: snapshot },
      ...(bitmap === undefined ? {} : { changes: (offset, length) => snapshot.changes(device, offset, length) }),
      ...(fullReason === undefined ? {} : { fullReason }),
      ...(bitmaps === undefined ? {} : { bitmapName: bitmaps.name }),
    };
  }

  async end(outcome: SnapshotOutcome): Promise<void> {
    // First, and long before nbd-server-stop: in QEMU 7.2 that waits for ever, and the guest with it, for a client that is
    // in the middle of its handshake, as one that connects again is.
    for (const device of this.#devices.splice(0)) await device.close();
    try {
      if (this.#isInside) await this.#leave(outcome);
    } finally {
      await this.#directory?.remove();
      this.#directory = undefined;
    }
  }

  /** The guest pays for what is in it: a monitor that another client has is waited for. */
  async #leave(outcome: SnapshotOutcome): Promise<void> {
    const end = REAL_CLOCK.monotonicMillis() + LEAVING_MILLIS;
    for (;;) {
      try {
        return await this.#withMonitor((monitor) => this.#takeAway(monitor, outcome), undefined);
      } catch (error) {
        const isBusy = error instanceof BusyError && error.code === 'qmp-busy';
        if (!isBusy || REAL_CLOCK.monotonicMillis() > end) throw error;
      }
    }
  }

  async #takeAway(monitor: Monitor, outcome: SnapshotOutcome): Promise<void> {
    const beforeLeaving = async () => {
      const { bitmaps } = this.#wish;
      if (bitmaps !== undefined) await endBitmaps(monitor, this.#bitmaps, bitmaps.name, outcome);
    };
    await sweep(monitor, { stopServer: this.#server?.isOurs === true, beforeLeaving });
    this.#isInside = false;
  }

  async #withMonitor<T>(work: (monitor: Monitor) => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    const monitor = await this.#host.openMonitor(this.#options.address, signal);
    try {
      return await work(monitor);
    } finally {
      await monitor.close();
    }
  }

  async #owner(): Promise<Owner | undefined> {
    const { address } = this.#options;
    return address.kind === 'socket' ? await ownerOf(address.path, this.#host.uid) : undefined;
  }

  get #need(): RunDirectory {
    return this.#directory!;
  }
}

/**
 * QEMU ends with an assertion when a disk is resized while its bitmap is exported, or shrunk under a snapshot. A node that
 * shows a part of fixed size keeps what it is a part of from being resized; QEMU then says that this node is in the way.
 * Where somebody has the right to resize already, as a FUSE export does, QEMU refuses it.
 */
async function holdSize(monitor: Monitor, nodeName: string, file: string, size: number): Promise<void> {
  try {
    await monitor.execute('blockdev-add', { driver: 'raw', 'node-name': nodeName, file, size, 'read-only': true });
  } catch (error) {
    if (!(error instanceof FailedError && error.code === 'qmp-command-failed')) throw error;
  }
}

function told(report: WindowReport): Omit<GuestSnapshot, 'disks' | 'end'> {
  const consistency: ConsistencyKind = report.frozen ? 'agent-frozen' : 'crash';
  const { notFrozen, momentMillis, pausedMicros } = report;
  return { consistency, momentMillis, pausedMicros, ...(notFrozen === undefined ? {} : { notFrozen }) };
}

function notReachable(error: FailedError, path: string): FailedError {
  return new FailedError('fleece-not-reachable', `QEMU cannot open files in the fleecing directory: ${error.message}`, {
    object: path,
    advice: 'Give a directory that QEMU, as its user and under its AppArmor or SELinux rules, may use: --fleece DIR.',
    cause: error,
  });
}

function resized(name: string, expected: number, found: number): FailedError {
  return new FailedError('resized', `disk ${name} was resized while its backup began`, {
    object: name,
    expected: `${expected} bytes`,
    found: `${found} bytes`,
    advice: 'Back up again.',
  });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
