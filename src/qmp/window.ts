// SPDX-License-Identifier: MIT
// The window in which a guest stands still.
//
// Guarantee: whatever happens between, the guest is continued if we paused it, and a thaw follows every freeze that was
// sent, answered or not. Both are tried again until they succeed, the guest is gone, or PERSISTENCE_MILLIS have passed.

import { REAL_CLOCK } from '../base/clock.js';
import { BugError, FailedError, InterruptedError, VmarError } from '../base/errors.js';
import { qomPathOf } from './answers.js';
import type { Step } from './commands.js';
import { GuestAgent } from './guest-agent.js';
import type { ExecuteOptions, Monitor } from './monitor.js';
import { openMonitor } from './open-monitor.js';
import { inTime } from './qmp-client.js';
import { QmpCommandError } from './qmp-errors.js';
import type { WindowPlan, WindowReport, WindowStep } from './window-plan.js';

const PERSISTENCE_MILLIS = 120_000;
const RETRY_MILLIS = 200;
const THAW_MILLIS = 10_000;
/** The guest may stand still meanwhile. */
const GO_MILLIS = 1000;

export interface WindowOutcome {
  readonly report: WindowReport;
  /** Resolves when the guest is thawed, or nothing more can be done for that. */
  readonly thawed: Promise<void>;
}

interface Freeze {
  readonly frozen: boolean;
  readonly why?: string;
  /** To be thawed, whether or not it froze. */
  readonly agent?: GuestAgent;
}

/**
 * `gone` aborts when nobody wants the window any more. Never rejects.
 * @param askForGo for a plan that waits for it: says that all is ready, and resolves with the go
 */
export async function runWindow(
  plan: WindowPlan,
  gone: AbortSignal,
  askForGo: () => Promise<void> = async () => {},
): Promise<WindowOutcome> {
  const window = new Window(plan, gone, askForGo);
  return await window.run();
}

class Window {
  readonly #plan: WindowPlan;
  readonly #gone: AbortSignal;
  readonly #askForGo: () => Promise<void>;
  /** The go was given: whoever gave it let go of what the steps take over, and they are done whatever becomes of it. */
  #isOn = false;
  #monitor: Monitor | undefined;
  #isMarked = false;
  /** Whose step QEMU refused. */
  #refusedDisk: string | undefined;
  #pausedMicros = 0;
  #momentMillis = 0;

  constructor(plan: WindowPlan, gone: AbortSignal, askForGo: () => Promise<void>) {
    this.#plan = plan;
    this.#gone = gone;
    this.#askForGo = askForGo;
  }

  async run(): Promise<WindowOutcome> {
    let freeze: Freeze = { frozen: false };
    let error: unknown;
    let stillFrozen = false;
    try {
      this.#monitor = await openMonitor(this.#plan.monitor, { signal: this.#gone });
      await this.#execute({ execute: 'blockdev-add', arguments: markNode(this.#plan.mark) });
      this.#isMarked = true;
      freeze = await this.#freeze();
      await this.#paused();
      if (freeze.frozen) stillFrozen = await isFrozen(freeze.agent);
    } catch (caught) {
      error = caught;
    }
    const thawed = this.#thaw(freeze.agent).then(() => this.#end());
    // Whoever gets the report needs the monitor: only a quick thaw is waited for.
    await Promise.race([thawed, REAL_CLOCK.sleep(THAW_MILLIS)]);
    await this.#letGo();
    return { report: this.#report(freeze, stillFrozen, error), thawed };
  }

  #report(freeze: Freeze, stillFrozen: boolean, error: unknown): WindowReport {
    const why = freeze.why ?? (freeze.frozen && !stillFrozen ? 'the guest thawed by itself before the end' : undefined);
    return {
      ...(error === undefined ? {} : { error: { ...tellable(error), ...this.#aboutDisk() } }),
      ...(why === undefined ? {} : { notFrozen: why }),
      frozen: freeze.frozen && stillFrozen,
      pausedMicros: this.#pausedMicros,
      momentMillis: this.#momentMillis,
    };
  }

  #aboutDisk(): { readonly disk?: string } {
    return this.#refusedDisk === undefined ? {} : { disk: this.#refusedDisk };
  }

  /** A guest that cannot be frozen is backed up as it is. */
  async #freeze(): Promise<Freeze> {
    const { agent: wanted } = this.#plan;
    if (wanted === undefined) return { frozen: false };
    let agent: GuestAgent | undefined;
    try {
      agent = await GuestAgent.open(wanted.path, { syncMillis: wanted.syncMillis, signal: this.#gone });
      const count = await agent.freeze(wanted.freezeMillis);
      return count > 0 ? { frozen: true, agent } : { frozen: false, why: 'the agent froze no file system', agent };
    } catch (error) {
      if (error instanceof InterruptedError) throw error;
      const why = error instanceof Error ? error.message : String(error);
      return { frozen: false, why, ...(agent === undefined ? {} : { agent }) };
    }
  }

  async #paused(): Promise<void> {
    this.#checkWanted();
    const { running } = this.#plan.pause
      ? await this.#need.execute('query-status', {}, this.#options)
      : { running: false };
    if (!running) return await this.#steps();
    const watch = new PauseWatch(this.#need);
    try {
      await this.#need.execute('stop', {}, this.#options);
      await this.#steps();
    } finally {
      await this.#continue();
      this.#pausedMicros = watch.end();
    }
  }

  async #steps(): Promise<void> {
    let done = 0;
    const { steps, waitsForGo } = this.#plan;
    try {
      if (waitsForGo === true) await this.#go();
      for (; done < steps.length; done++) {
        this.#checkWanted();
        await this.#execute(steps[done]!.do);
      }
      this.#momentMillis = REAL_CLOCK.nowMillis();
      this.#checkWanted();
    } catch (error) {
      if (error instanceof QmpCommandError) this.#refusedDisk = steps[done]?.disk;
      // Of one that timed out nobody knows whether it came to pass.
      const unsure = error instanceof VmarError && error.code === 'qmp-timeout' ? steps[done] : undefined;
      if (unsure !== undefined) await this.#undoUnsure(unsure).catch(() => {});
      for (const { undo } of steps.slice(0, done).reverse()) await this.#execute(undo).catch(() => {});
      throw error;
    }
  }

  async #go(): Promise<void> {
    await inTime(this.#askForGo(), GO_MILLIS, this.#gone, () => {
      const message = `the disks were not let go of within ${GO_MILLIS} ms: their storage is too busy`;
      return new FailedError('too-slow', message, { object: this.#need.name });
    });
    this.#isOn = true;
  }

  /** A device that is given the node that it has already makes QEMU 7.2 end with an assertion. */
  async #undoUnsure({ do: { execute, arguments: given }, undo }: WindowStep): Promise<void> {
    if (execute === 'qom-set') {
      const drives = await this.#need.execute('query-block', {}, this.#options);
      const drive = drives.find(({ qdev }) => qdev !== undefined && qomPathOf(qdev) === given.path);
      if (drive?.inserted?.nodeName !== given.value) return;
    }
    await this.#execute(undo);
  }

  async #continue(): Promise<void> {
    await persist(async () => {
      if (this.#monitor === undefined) this.#monitor = await openMonitor(this.#plan.monitor);
      try {
        await this.#monitor.execute('cont', {}, this.#options);
      } catch (error) {
        if (error instanceof QmpCommandError) {
          // Where it is not paused any more (it was shut down, say), there is nothing left to be set right.
          const { status } = await this.#monitor.execute('query-status', {}, this.#options);
          if (status !== 'paused') return;
          throw error;
        }
        await this.#monitor.close();
        this.#monitor = undefined;
        throw error;
      }
    });
  }

  async #thaw(agent: GuestAgent | undefined): Promise<void> {
    if (agent === undefined) return;
    const { path, syncMillis } = this.#plan.agent!;
    let open: GuestAgent | undefined = agent;
    await persist(async () => {
      open ??= await GuestAgent.open(path, { syncMillis });
      try {
        await open.thaw(THAW_MILLIS);
      } catch (error) {
        if (error instanceof VmarError && error.code === 'agent-refused') return;
        open.close();
        open = undefined;
        throw error;
      }
    });
    (open as GuestAgent | undefined)?.close();
  }

  /** The mark goes when the guest is on its way again. */
  async #end(): Promise<void> {
    if (!this.#isMarked) return;
    await persist(async () => {
      this.#monitor ??= await openMonitor(this.#plan.monitor);
      const monitor = this.#monitor;
      try {
        await monitor.execute('blockdev-del', { 'node-name': this.#plan.mark }, this.#options);
      } catch (error) {
        if (!(error instanceof QmpCommandError)) throw error;
      } finally {
        await this.#letGo();
      }
    });
  }

  async #letGo(): Promise<void> {
    const monitor = this.#monitor;
    this.#monitor = undefined;
    await monitor?.close();
  }

  async #execute(step: Step): Promise<void> {
    // The pair fits, as a step's type says; the compiler does not follow.
    await this.#need.execute(step.execute, step.arguments as never, this.#options);
  }

  #checkWanted(): void {
    if (!this.#isOn && this.#gone.aborted) throw new InterruptedError();
  }

  get #need(): Monitor {
    if (this.#monitor === undefined) throw new BugError('the window has no monitor');
    return this.#monitor;
  }

  get #options(): ExecuteOptions {
    return { timeoutMillis: this.#plan.commandMillis };
  }
}

/** Measures a pause by QEMU's events, else by our clock. */
class PauseWatch {
  readonly #startMillis = REAL_CLOCK.monotonicMillis();
  readonly #endEvents: () => void;
  #stoppedMicros: number | undefined;
  #resumedMicros: number | undefined;

  constructor(monitor: Monitor) {
    this.#endEvents = monitor.onEvent((event) => {
      if (event.event === 'STOP') this.#stoppedMicros ??= event.atMicros;
      if (event.event === 'RESUME') this.#resumedMicros = event.atMicros;
    });
  }

  end(): number {
    this.#endEvents();
    if (this.#stoppedMicros !== undefined && this.#resumedMicros !== undefined) {
      // By the host's clock, which may be set meanwhile.
      return Math.max(0, this.#resumedMicros - this.#stoppedMicros);
    }
    return Math.round((REAL_CLOCK.monotonicMillis() - this.#startMillis) * 1000);
  }
}

function markNode(name: string) {
  return { driver: 'null-co', 'node-name': name, size: 0 } as const;
}

/** Guests end a freeze by themselves when it lasts (Windows after ten seconds). */
async function isFrozen(agent: GuestAgent | undefined): Promise<boolean> {
  try {
    return (await agent?.freezeStatus(THAW_MILLIS)) === 'frozen';
  } catch {
    return false;
  }
}

/** Until it succeeds, the other side is gone, or it has gone on for too long. */
async function persist(attempt: () => Promise<void>): Promise<void> {
  const end = REAL_CLOCK.monotonicMillis() + PERSISTENCE_MILLIS;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      const isGone = error instanceof VmarError && error.code === 'qmp-missing';
      if (isGone || REAL_CLOCK.monotonicMillis() > end) return;
      await REAL_CLOCK.sleep(RETRY_MILLIS);
    }
  }
}

function tellable(error: unknown) {
  if (error instanceof VmarError) return { code: error.code, message: error.message, object: error.object ?? '' };
  return { code: 'bug', message: error instanceof Error ? error.message : String(error), object: '' };
}
