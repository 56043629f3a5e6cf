// SPDX-License-Identifier: MIT
// Moves a guest's disks from our exports to the targets, while it runs.
//
// Guarantee: no write that the guest was told of is lost, and at no time can two programs write to a target. Who may write
// when, and why:
// 1. Until the go, we alone: we have the image locks. The node for the target is in QEMU already, but a node that nobody
//    uses takes no locks and writes nothing.
// 2. The guest stands still (where there is one to be paused): QEMU has waited for its requests, and flushed them to us.
//    We let no request in, wait for those that are in, flush the target, and give up the image locks. That is the go.
// 3. The steps: QEMU takes the locks of the target as it puts the node under the device. It waits before that for every
//    request to the node that goes, so what comes late (from a storage daemon, which is not paused) is written by us
//    before QEMU has the target, and all later requests go to the target itself.
// 4. Steps that fail are taken back, which gives the locks free, before the guest goes on. We take them again.
// 5. Only when we have seen that the guest uses the target do we end: nothing is written through the export any more.
// Whoever is killed: the target holds all at every moment, and the guest is on one side or the other.

import { randomBytes } from 'node:crypto';
import { BusyError, FailedError, type VmarError } from '../../base/errors.js';
import type { Monitor, MonitorAddress } from '../../qmp/monitor.js';
import type { WindowPlan, WindowReport } from '../../qmp/window-plan.js';
import type { MovedDisk } from '../live-event.js';
import { type ClearWish, clearUp, isMoved, letRun } from './clear-up.js';
import { type ExportWish, findExportUse, isNameless } from './export-use.js';
import { type GuestView, isOfSwitch, RUN_NODE, switchName } from './guest-view.js';
import { checkSwitchable } from './switch-features.js';
import { type Move, moveSteps, replacedNode } from './switch-plan.js';
import { addTargetNode, iothreadOf, isRefusal, type TargetWish, targetNodeName } from './target-node.js';

/** What a switch needs of the program. */
export interface SwitchHost {
  readonly address: MonitorAddress;
  openMonitor(signal: AbortSignal | undefined): Promise<Monitor>;
  /** Does the plan in a process that outlives this one; see WindowPlan. */
  runWindow(plan: WindowPlan, signal: AbortSignal, onReady: () => Promise<void>): Promise<WindowReport>;
  /** Takes away what a killed backup left in the guest. @throws BusyError if one is under way */
  clearBackups(monitor: Monitor): Promise<unknown>;
}

/** A disk that is to be moved. */
export interface SwitchDisk {
  readonly wish: ExportWish;
  readonly target: TargetWish;
  /** Makes durable what is written. */
  flush(): Promise<void>;
  /** Waits for requests, flushes, and gives up the image locks. */
  letGo(): Promise<void>;
  /** Takes the locks again, if they were given up. Where another program has them by now, it goes on without. */
  takeBack(): void;
  /** The guest is on the target: from here on the export takes no write. */
  end(): Promise<void>;
  /**
   * Lets QEMU open the target, though not use it; and says to other runs, for as long as it is held, that the node which
   * keeps them out is alive.
   */
  begin(): () => void;
}

export interface SwitchReport {
  readonly disks: readonly MovedDisk[];
  /** How long the guest stood still. */
  readonly pausedMicros: number;
}

const COMMAND_MILLIS = 10_000;

/**
 * One attempt. All disks are moved, or, if it rejects, as far as could be seen to none; where QEMU did move some and
 * could not take it back, the next attempt finds them moved.
 */
export async function switchOver(
  host: SwitchHost,
  disks: readonly SwitchDisk[],
  signal: AbortSignal,
): Promise<SwitchReport> {
  return await new SwitchOver(host, disks, signal).run();
}

interface Prepared {
  readonly moves: ReadonlyMap<SwitchDisk, Move>;
  /** There is a guest, which can be paused. */
  readonly pause: boolean;
}

class SwitchOver {
  readonly #host: SwitchHost;
  readonly #disks: readonly SwitchDisk[];
  readonly #signal: AbortSignal;
  readonly #run = randomBytes(4).toString('hex');

  constructor(host: SwitchHost, disks: readonly SwitchDisk[], signal: AbortSignal) {
    this.#host = host;
    this.#disks = disks;
    this.#signal = signal;
  }

  async run(): Promise<SwitchReport> {
    const ends = this.#disks.map((disk) => disk.begin());
    try {
      const prepared = await this.#prepare();
      const pausedMicros = await this.#moveAll(prepared);
      const moved = this.#disks.map((disk) => ({
        disk: disk.wish.disk,
        node: prepared.moves.get(disk)?.targetNode,
      }));
      return { disks: moved, pausedMicros };
    } finally {
      for (const end of ends) end();
    }
  }

  async #prepare(): Promise<Prepared> {
    try {
      return await this.#withMonitor(async (monitor) => {
        const { canPause } = await checkSwitchable(monitor);
        if (canPause) await letRun(monitor);
        const view = await clearUp(monitor, this.#clearWishes);
        await this.#host.clearBackups(monitor);
        return { moves: await this.#addNodes(monitor, await this.#planMoves(view)), pause: canPause };
      });
    } catch (error) {
      await this.#withMonitor((monitor) => clearUp(monitor, this.#clearWishes)).catch(() => undefined);
      throw error;
    }
  }

  async #planMoves(view: GuestView): Promise<Map<SwitchDisk, Move>> {
    const moves = new Map<SwitchDisk, Move>();
    for (const disk of this.#disks) {
      if (await isMoved(view, disk.target.path)) {
        await disk.end();
        continue;
      }
      const use = await findExportUse(view, disk.wish);
      const names = [...moves.values()].map(({ targetNode }) => targetNode);
      moves.set(disk, { use, targetNode: targetNodeName(view, disk.wish.disk, names) });
    }
    return moves;
  }

  /** The run's own node first: of two runs that come at the same time QEMU lets in one. */
  async #addNodes(monitor: Monitor, moves: Map<SwitchDisk, Move>): Promise<Map<SwitchDisk, Move>> {
    const [first] = this.#disks;
    if (moves.size === 0 || first === undefined) return moves;
    await this.#enter(monitor, first.target);
    const all = [...moves.values()];
    for (const [{ target }, { use, targetNode }] of moves) await addTargetNode(monitor, targetNode, target, use);
    await this.#keepOld(monitor, all);
    return moves;
  }

  /**
   * QEMU drops a node of -drive with its last user. It is kept alive, so that it can be put back, and because QEMU, when it
   * drops a node, waits for an answer from our server, which may have been killed. Not where an iothread has it: QEMU 7.2
   * can end with an assertion when a node is put over such a one.
   */
  async #keepOld(monitor: Monitor, moves: readonly Move[]): Promise<void> {
    for (const [at, { use }] of moves.entries()) {
      const old = replacedNode(use);
      if (!isNameless(old) || (use.place.kind === 'device' && (await iothreadOf(monitor, use.place.qomPath)))) continue;
      const keeper = { 'node-name': switchName(this.#run, 'keeper', at), file: old.nodeName, 'read-only': true };
      await monitor.execute('blockdev-add', { driver: 'raw', ...keeper });
    }
  }

  async #enter(monitor: Monitor, { path, isDevice }: TargetWish): Promise<void> {
    const driver = isDevice ? 'host_device' : 'file';
    try {
      await monitor.execute('blockdev-add', { driver, 'node-name': RUN_NODE, filename: path, 'read-only': true });
    } catch (error) {
      if (!isRefusal(error)) throw error;
      if (/duplicate|already/i.test(error.message)) throw otherRun(monitor.name);
      throw notReachable(path, error);
    }
  }

  async #moveAll({ moves, pause }: Prepared): Promise<number> {
    if (moves.size === 0) return 0;
    await this.#calmDown();
    try {
      const { pausedMicros } = await this.#host.runWindow(
        {
          monitor: this.#host.address,
          mark: switchName(this.#run, 'mark'),
          steps: moveSteps([...moves.values()]),
          commandMillis: COMMAND_MILLIS,
          waitsForGo: true,
          pause,
        },
        this.#signal,
        async () => {
          await Promise.all([...moves.keys()].map((disk) => disk.letGo()));
        },
      );
      await this.#settle();
      return pausedMicros;
    } catch (error) {
      await this.#settle().catch(() => undefined);
      throw error;
    }
  }

  /** Much that is not durable yet would make the guest stand still for as long as it takes to write it. */
  async #calmDown(): Promise<void> {
    for (let turn = 0; turn < 5; turn++) {
      const start = performance.now();
      await Promise.all(this.#disks.map((disk) => disk.flush()));
      if (performance.now() - start < 20) return;
    }
  }

  /** Whatever became of the steps: what the guest is not on is ours again. @throws if a disk is not moved */
  async #settle(): Promise<void> {
    const left = new Set(this.#disks);
    try {
      await this.#withMonitor(async (monitor) => {
        const view = await clearUp(monitor, this.#clearWishes);
        for (const disk of this.#disks) {
          if (!(await isMoved(view, disk.target.path))) continue;
          left.delete(disk);
          await disk.end();
        }
        if (left.size === 0) checkNothingLeft(view);
      }, new AbortController().signal);
    } finally {
      for (const disk of left) disk.takeBack();
    }
    const [first] = left;
    if (first !== undefined) throw notMoved(first.wish.disk);
  }

  get #clearWishes(): ClearWish[] {
    return this.#disks.map(({ wish, target }) => ({ wish, targetPath: target.path }));
  }

  async #withMonitor<T>(work: (monitor: Monitor) => Promise<T>, signal = this.#signal): Promise<T> {
    const monitor = await this.#host.openMonitor(signal);
    try {
      return await work(monitor);
    } finally {
      await monitor.close();
    }
  }
}

function checkNothingLeft(view: GuestView): void {
  const left = view.nodes.filter(({ nodeName }) => isOfSwitch(nodeName) || nodeName === RUN_NODE);
  if (left.length === 0) return;
  throw new FailedError('switch-left', 'the guest is moved, but nodes of the switch are left in it', {
    object: view.name,
    found: left.map(({ nodeName }) => nodeName).join(', '),
  });
}

function otherRun(object: string): VmarError {
  return new BusyError('guest-busy', 'another vmar is at work on this guest', { object });
}

function notMoved(disk: string): VmarError {
  return new FailedError('not-moved', `${disk} is still on the export`, { object: disk });
}

function notReachable(path: string, error: FailedError): VmarError {
  return new FailedError('target-refused', `QEMU does not take the target: ${error.message}`, {
    object: path,
    advice: "Let QEMU's user read and write it (chown), and its AppArmor or SELinux rules.",
    cause: error,
  });
}
