// SPDX-License-Identifier: MIT
// The reports of runs of nightly jobs, state/jobs/: one sealed small file a run, named after its beginning. The newest
// are kept, the number of them is bounded.

import { randomBytes } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { decodeJobReport, encodeJobReport, type JobReport } from '../../formats/vmar/job-report.js';
import { MAX_MANIFEST_BYTES } from '../../formats/vmar/limits.js';
import { formatTime } from '../../formats/vmar/names.js';
import type { Datastore } from './datastore.js';
import { makeDirectories, syncDirectories, unlessMissing } from './directory-tree.js';
import { storeFailure, systemCode } from './fs.js';
import { readSmallFile, writeDurably } from './small-file.js';

/** Several jobs a night for more than a year. */
export const MOST_REPORTS = 2000;
const NAME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z-[0-9a-f]{16}\.report$/;

function reportDirectory(root: string): string {
  return join(root, 'state', 'jobs');
}

/** Paths of the reports, by when the runs began. */
export async function listReports(root: string): Promise<string[]> {
  const directory = reportDirectory(root);
  try {
    return (await readdir(directory))
      .filter((name) => NAME.test(name))
      .sort()
      .map((name) => join(directory, name));
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw storeFailure(error, 'list the directory', directory);
  }
}

/** @throws NotFoundError, DamageError, or FailedError if it is of a newer version. */
export async function readReport(path: string): Promise<JobReport> {
  return decodeJobReport(await readSmallFile(path, MAX_MANIFEST_BYTES), path);
}

/**
 * The path for the report of a run that begins now; another for each call. The first four digits after the time are its
 * milliseconds: runs that begin within one second are listed in their order too.
 */
export function newReportPath(root: string, startedMillis: number): string {
  const started = Math.max(0, Math.floor(startedMillis));
  const millis = (started % 1000).toString(16).padStart(4, '0');
  const name = `${formatTime(Math.floor(started / 1000))}-${millis}${randomBytes(6).toString('hex')}.report`;
  return join(reportDirectory(root), name);
}

/**
 * Puts the report at the path, in place of an earlier state of it: once it resolves, it is durable. Then the oldest
 * reports go, but never this one, whatever the clock said when it began.
 * @throws FailedError if the datastore is not there any more, or full, or cannot be written to
 */
export async function writeReport(store: Datastore, path: string, report: JobReport): Promise<void> {
  const { fs, root } = store;
  const directory = reportDirectory(root);
  // Where it was unmounted, nothing is to be made in its place.
  await store.checkReachable();
  const session = await store.beginSession('maintenance');
  try {
    await makeDirectories(fs, root, directory);
    const temporary = session.temporaryPath('report');
    await writeDurably(fs, temporary, encodeJobReport(report, store.superblock.hash));
    await fs.rename(temporary, path);
    await syncDirectories(fs, root, directory);
    const others = (await listReports(root)).filter((other) => other !== path);
    const going = others.slice(0, Math.max(0, others.length + 1 - MOST_REPORTS));
    for (const old of going) await unlessMissing(fs.unlink(old));
  } finally {
    await session.end();
  }
}
