// SPDX-License-Identifier: MIT
// The reports of jobs in a datastore: kept, bounded, read back the newest first, and checked; and the locks that tell runs
// which are under way from those that were killed.

import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { encodeJobReport, RUN_KILLED } from '#vmar/formats/vmar/job-report.js';
import { verifyDatastore } from '#vmar/src/archive/verify/verify-datastore.js';
import { killedBefore, readHistory, type SeenReport } from '#vmar/src/nightly/history.js';
import { type Datastore, openDatastore } from '#vmar/src/store/datastore.js';
import { initDatastore } from '#vmar/src/store/init.js';
import { listReports, MOST_REPORTS, newReportPath, writeReport } from '#vmar/src/store/job-reports.js';
import { isRunAlive, lockRun, unlockRun } from '#vmar/src/store/run-locks.js';
import { scratchDirectory } from '../base/scratch.js';
import { jobReportSample } from '../formats/vmar/samples.js';

let count = 0;
const directory = scratchDirectory();
let store: Datastore;

beforeEach(async () => {
  const root = join(directory, `store-${count++}`);
  await initDatastore(root, {
    ...{ clusterSizeBytes: 65536, hash: 'blake3', mapFanout: 128 },
    ...{ timeSeconds: 1, createdBy: 'a test' },
  });
  store = await openDatastore(root, { cacheDir: join(directory, 'cache') });
});

const START = Date.UTC(2026, 10, 21, 2);

async function keep(startedMillis: number, job = 'nightly'): Promise<string> {
  const path = newReportPath(store.root, startedMillis);
  await writeReport(store, path, { ...jobReportSample(), job, startedMillis });
  return path;
}

async function jobsOf(): Promise<string[]> {
  const jobs: string[] = [];
  for await (const { job } of readHistory(store)) jobs.push(job);
  return jobs;
}

describe('reports of jobs', () => {
  it('come back the newest first, whole', async () => {
    expect(await jobsOf()).toEqual([]);
    await keep(START + 1000, 'b');
    await keep(START, 'a');
    await keep(START + 86_400_000, 'c');
    expect(await jobsOf()).toEqual(['c', 'b', 'a']);
    for await (const report of readHistory(store)) {
      const { job, startedMillis } = report;
      expect(report).toEqual({ ...jobReportSample(), job, startedMillis });
    }
    expect(readdirSync(join(store.root, 'tmp'))).toEqual([]);
  });

  it('of one second come in their order too', async () => {
    for (const millis of [9, 999, 100, 10]) await keep(START + millis, `${millis}`);
    expect(await jobsOf()).toEqual(['999', '100', '10', '9']);
  });

  it('of one moment do not replace each other; one that is written again does', async () => {
    await keep(START, 'a');
    const path = await keep(START, 'b');
    await writeReport(store, path, { ...jobReportSample(), job: 'c', startedMillis: START });
    expect((await jobsOf()).sort()).toEqual(['a', 'c']);
  });

  it('are bounded: the oldest go, but never the one just written, though the clock was wrong', async () => {
    const bytes = encodeJobReport({ ...jobReportSample(), startedMillis: START }, 'blake3');
    mkdirSync(join(store.root, 'state', 'jobs'));
    for (let n = 0; n < MOST_REPORTS + 3; n++) writeFileSync(newReportPath(store.root, START + n * 1000), bytes);
    const path = await keep(1000);
    const left = await listReports(store.root);
    expect(left).toHaveLength(MOST_REPORTS);
    expect(left[0]).toBe(path);
    expect(left[1]).toContain('2026-11-21T02:00:04Z');
  });

  it('that are damaged are told by verify, with their file, and left out of the history', async () => {
    await keep(START, 'a');
    const path = await keep(START + 1000, 'b');
    const bytes = readFileSync(path);
    for (const at of [0, 9, 20, 50, bytes.length - 1]) {
      const damaged = Buffer.from(bytes);
      damaged[at]! ^= 4;
      writeFileSync(path, damaged);
      const { damage } = await verifyDatastore(store, { mode: 'quick', portable: false, workers: 0 });
      expect(damage.map(({ kind, file }) => [kind, file])).toEqual([['job-report', path]]);
      const told: string[] = [];
      const jobs: string[] = [];
      for await (const { job } of readHistory(store, (damaged) => told.push(damaged.path))) jobs.push(job);
      expect([jobs, told]).toEqual([['a'], [path]]);
    }
    writeFileSync(path, bytes);
    const { damage } = await verifyDatastore(store, { mode: 'quick', portable: false, workers: 0 });
    expect(damage).toEqual([]);
  });
});

describe('locks of runs', () => {
  it('tell runs that are under way, on a datastore without empty directories too; dead ones are cleared away', async () => {
    const path = newReportPath(store.root, START);
    rmSync(join(store.root, 'locks'), { recursive: true });
    expect(isRunAlive(store.root, path)).toBe(false);
    const lock = await lockRun(store, path);
    expect(isRunAlive(store.root, path)).toBe(true);
    expect(isRunAlive(store.root, newReportPath(store.root, START))).toBe(false);
    const dead = join(store.root, 'locks', 'job-2026-11-20T02:00:00Z-0000000000000000.lock');
    writeFileSync(dead, '');
    const other = await lockRun(store, newReportPath(store.root, START));
    expect([existsSync(dead), isRunAlive(store.root, path)]).toEqual([false, true]);
    for (let n = 0; n < 2; n++) await unlockRun(store, lock);
    await unlockRun(store, other);
    expect(isRunAlive(store.root, path)).toBe(false);
    expect(readdirSync(join(store.root, 'locks'))).toEqual([]);
  });

  it('are not taken where the datastore is gone', async () => {
    const path = newReportPath(store.root, START);
    rmSync(store.root, { recursive: true });
    await expect(lockRun(store, path)).rejects.toMatchObject({ code: 'store-unreachable' });
    expect(existsSync(store.root)).toBe(false);
  });
});

it('an unfinished report is read as running, killed, or what it has become meanwhile', async () => {
  const path = newReportPath(store.root, START);
  const guest = { ...jobReportSample().guests[0]!, outcome: 'failed', errorCode: RUN_KILLED } as const;
  const unfinished = { ...jobReportSample(), errorCode: RUN_KILLED, guests: [{ ...guest, attempts: 0 }, guest] };
  const lock = await lockRun(store, path);
  await writeReport(store, path, unfinished);
  const read = async (): Promise<SeenReport | undefined> => {
    for await (const report of readHistory(store)) return report;
    return undefined;
  };
  expect(await read()).toMatchObject({
    ...{ outcome: 'running', errorCode: '', error: '' },
    guests: [{ outcome: 'waiting' }, { outcome: 'running' }],
    steps: jobReportSample().steps,
  });
  expect(await killedBefore(store, unfinished)).toBeUndefined();
  await unlockRun(store, lock);
  expect(await read()).toEqual(unfinished);
  expect(await killedBefore(store, unfinished)).toEqual(unfinished);
  expect(await killedBefore(store, { job: unfinished.job, host: 'elsewhere' })).toBeUndefined();
  await writeReport(store, newReportPath(store.root, START + 1000), jobReportSample());
  expect(await killedBefore(store, unfinished)).toBeUndefined();
});
