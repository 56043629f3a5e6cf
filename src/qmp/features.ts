// SPDX-License-Identifier: MIT
// What a QEMU must be able to do for a live backup, and since when it can.

import type { QemuVersion } from './answers.js';
import type { Monitor } from './monitor.js';
import { qemuTooOld } from './qmp-errors.js';

interface Feature {
  /** As it stands in the schema: a command, a member, or a value of an enumeration. */
  readonly name: string;
  readonly since: string;
}

/** Oldest first. */
const NEEDED: readonly Feature[] = [
  { name: 'block-export-add', since: '5.2' },
  { name: 'blockdev-reopen', since: '6.1' },
  { name: 'copy-before-write', since: '6.2' },
  { name: 'snapshot-access', since: '7.0' },
  { name: 'on-cbw-error', since: '7.1' },
  { name: 'cbw-timeout', since: '7.1' },
];

/** @throws FailedError 'qemu-too-old', which names what is missing and the version that has it */
export async function checkFeatures(monitor: Monitor): Promise<QemuVersion> {
  const version = await monitor.execute('query-version', {});
  const names = await monitor.execute('query-qmp-schema', {});
  const missing = NEEDED.filter(({ name }) => !names.has(name));
  const newest = missing.at(-1);
  if (newest === undefined) return version;
  const told = missing.map(({ name, since }) => `${name} (since ${since})`);
  throw qemuTooOld(monitor.name, formatVersion(version), told, newest.since);
}

export function formatVersion({ major, minor, micro }: QemuVersion): string {
  return `${major}.${minor}.${micro}`;
}
