// SPDX-License-Identifier: MIT
// Takes away what runs put into a guest, looking at what is there and not at what should be: so it serves at the end of a
// run, after a failure in the middle of anything, and for what a run that was killed left behind. It may be called again.

import { REAL_CLOCK } from '../../src/base/clock.js';
import { BusyError, FailedError } from '../../src/base/errors.js';
import { driveStep, type Monitor, qomPathOf, rawOptions, reopenStep, type Step } from '../../src/plugin-api.js';
import { hasRole, isOurs, RUN_NODE } from './names.js';
import { isAlive, removeDead } from './run-directory.js';

const GONE_MILLIS = 30_000;
const FIRST_POLL_MILLIS = 1;
const LAST_POLL_MILLIS = 32;
/** As the block graph names jobs. */
const JOB = 'block-job:';

/**
 * Takes away what a run that died left. False: there was nothing.
 * @throws BusyError if the run is alive
 */
export async function sweepDead(monitor: Monitor): Promise<boolean> {
  const nodes = await monitor.execute('query-named-block-nodes', { flat: true });
  const ours = nodes.filter(({ nodeName }) => isOurs(nodeName));
  if (ours.length === 0) return false;
  const lockPath = ours.find(({ nodeName }) => nodeName === RUN_NODE)?.fileName;
  if (lockPath !== undefined && (await isAlive(lockPath))) throw guestBusy(monitor.name);
  if (ours.some(({ nodeName }) => hasRole(nodeName, 'mark'))) await letRun(monitor);
  // The server is started only after snapshot nodes were made.
  await sweep(monitor, { stopServer: ours.some(({ nodeName }) => hasRole(nodeName, 'access')) });
  if (lockPath !== undefined) await removeDead(lockPath);
  return true;
}

/** The guardian itself was killed while the guest stood still. */
async function letRun(monitor: Monitor): Promise<void> {
  const { status } = await monitor.execute('query-status', {});
  if (status === 'paused') await monitor.execute('cont', {});
}

export interface SweepOptions {
  /** QEMU's NBD server is ours, as far as is known; it is stopped unless others export through it. */
  readonly stopServer: boolean;
  readonly beforeLeaving?: () => Promise<void>;
}

/**
 * Exports, the server, snapshot nodes, filters, fleecing nodes: in this order, as each holds on to the next. Then, after
 * `beforeLeaving`, RUN_NODE, which keeps other runs out until all is gone.
 */
export async function sweep(monitor: Monitor, { stopServer, beforeLeaving }: SweepOptions): Promise<void> {
  const exports = await monitor.execute('query-block-exports', {});
  const ours = exports.filter(({ id }) => isOurs(id));
  for (const { id, shuttingDown } of ours) {
    if (!shuttingDown) await monitor.execute('block-export-del', { id, mode: 'hard' });
  }
  await untilExportsAreGone(monitor);
  const others = exports.some(({ id, type }) => type === 'nbd' && (!isOurs(id) || hasRole(id, 'visit')));
  if (stopServer && !others) await tolerant(monitor, { execute: 'nbd-server-stop', arguments: {} });
  const nodes = await monitor.execute('query-named-block-nodes', { flat: true });
  const names = nodes.map(({ nodeName }) => nodeName).filter(isOurs);
  const remove = async (wanted: readonly string[]) => {
    for (const name of wanted) await monitor.execute('blockdev-del', { 'node-name': name });
  };
  await remove(names.filter((name) => hasRole(name, 'access') || hasRole(name, 'size')));
  await takeFiltersOut(monitor);
  await refuseJobs(monitor);
  await remove(names.filter((name) => hasRole(name, 'cbw')));
  await remove(names.filter((name) => hasRole(name, 'fleece') || hasRole(name, 'mark')));
  await beforeLeaving?.();
  await remove(names.filter((name) => name === RUN_NODE));
}

async function untilExportsAreGone(monitor: Monitor): Promise<void> {
  await until(
    async () => (await monitor.execute('query-block-exports', {})).every(({ id }) => !isOurs(id)),
    () => new FailedError('export-stays', 'QEMU did not end an export of a backup', { object: monitor.name }),
  );
}

async function until(isSo: () => Promise<boolean>, late: () => FailedError): Promise<void> {
  const end = REAL_CLOCK.monotonicMillis() + GONE_MILLIS;
  for (let pause = FIRST_POLL_MILLIS; !(await isSo()); pause = Math.min(2 * pause, LAST_POLL_MILLIS)) {
    if (REAL_CLOCK.monotonicMillis() > end) throw late();
    await REAL_CLOCK.sleep(pause);
  }
}

/** Whoever uses one of our filters gets what is below it. */
async function takeFiltersOut(monitor: Monitor): Promise<void> {
  const { edges } = await monitor.execute('x-debug-query-block-graph', {});
  const below = new Map(
    edges
      .filter(({ name, parent }) => name === 'file' && hasRole(parent, 'cbw'))
      .map((edge) => [edge.parent, edge.child]),
  );
  if (below.size === 0) return;
  for (const { qdev, inserted } of await monitor.execute('query-block', {})) {
    const image = below.get(inserted?.nodeName ?? '');
    if (image === undefined || qdev === undefined) continue;
    await run(monitor, driveStep(qomPathOf(qdev), image));
  }
  const nodes = await monitor.execute('query-named-block-nodes', { flat: true });
  const tops = edges.flatMap(({ parent, child, name }) => {
    const top = nodes.find(({ nodeName, driver }) => nodeName === parent && driver === 'raw');
    const image = below.get(child);
    return name === 'file' && top !== undefined && image !== undefined ? [rawOptions(top, image)] : [];
  });
  if (tops.length > 0) await run(monitor, reopenStep(tops));
  for (const { parent, child, name } of edges) {
    const image = below.get(child);
    if (name === 'backing' && image !== undefined && !isOurs(parent))
      await takeOutOfChain(monitor, parent, child, image);
  }
}

/**
 * A job that somebody began meanwhile has put its own filter over ours, which has to stay until that has gone.
 * @throws BusyError 'disk-busy'
 */
async function refuseJobs(monitor: Monitor): Promise<void> {
  const { edges } = await monitor.execute('x-debug-query-block-graph', {});
  const over = edges.find(({ parent, child }) => hasRole(child, 'cbw') && !isOurs(parent))?.parent;
  const users = edges.filter(({ child }) => child === over || hasRole(child, 'cbw')).map(({ parent }) => parent);
  const job = users.find((user) => user.startsWith(JOB));
  if (job === undefined) return;
  throw new BusyError('disk-busy', `QEMU's block job ${job.slice(JOB.length)} works over a filter of a backup`, {
    object: monitor.name,
    advice: 'Wait for it to end; the next backup then takes the filter away.',
  });
}

/**
 * Somebody took a snapshot of the disk meanwhile, and the new image is over the filter. QEMU takes out what is between an
 * image and its base once that is streamed; between these there is nothing to copy.
 */
async function takeOutOfChain(monitor: Monitor, overlay: string, filter: string, image: string): Promise<void> {
  await monitor.execute('block-stream', { 'job-id': filter, device: overlay, 'base-node': image });
  await until(
    async () => (await monitor.execute('query-jobs', {})).every(({ id }) => id !== filter),
    () =>
      new FailedError('filter-stays', `QEMU did not take a filter of a backup out from under ${overlay}`, {
        object: monitor.name,
      }),
  );
}

async function run(monitor: Monitor, step: Step): Promise<void> {
  await monitor.execute(step.execute, step.arguments as never);
}

/** QEMU may refuse. */
async function tolerant(monitor: Monitor, step: Step): Promise<void> {
  try {
    await run(monitor, step);
  } catch (error) {
    if (!(error instanceof FailedError && error.code === 'qmp-command-failed')) throw error;
  }
}

export function guestBusy(object: string): BusyError {
  return new BusyError('guest-busy', 'another vmar is backing up this guest', {
    object,
    advice: 'Run it again later, or with --wait.',
  });
}
