// SPDX-License-Identifier: MIT
// What vmar status tells Prometheus.

import { type GuestHealth, isWell } from '../../nightly/guest-health.js';
import { formatGuest } from '../../store/backup-id.js';
import { sizeOf } from '../status-report.js';
import { MetricsFile } from './metrics-file.js';

type Figure = readonly [name: string, help: string, of: (guest: GuestHealth) => number | undefined];

const FIGURES: readonly Figure[] = [
  ['last_backup_timestamp_seconds', 'Time of the last good backup of a guest.', ({ last }) => last?.ref.timeSeconds],
  ['backups', 'How many backups a guest has.', ({ backups }) => backups],
  ['last_backup_size_bytes', 'Lengths of the disks of the last good backup of a guest.', (guest) => sizeOf(guest)],
  [
    'overdue',
    'Whether a guest should have a newer good backup, 0 or 1.',
    ({ overdue }) => Number(overdue !== undefined),
  ],
  [
    'damaged_backups',
    'Backups of a guest that are known to be damaged.',
    ({ damaged, olderDamaged }) => damaged.length + olderDamaged.length,
  ],
  [
    'last_verified_timestamp_seconds',
    'Since when all of the last good backup of a guest is known to be whole.',
    ({ verifiedMillis }) => inSeconds(verifiedMillis),
  ],
  [
    'next_run_timestamp_seconds',
    'When a job is to back up a guest next.',
    ({ nextRunMillis }) => inSeconds(nextRunMillis),
  ],
];

/** @throws FailedError if the file cannot be written */
export async function writeStatusMetrics(
  path: string,
  datastore: string,
  guests: readonly GuestHealth[],
): Promise<void> {
  const file = new MetricsFile({ datastore });
  for (const [name, help, of] of FIGURES) {
    const samples = guests.map((guest) => ({ labels: { guest: formatGuest(guest.guest) }, value: of(guest) }));
    file.gauge(`vmar_guest_${name}`, help, samples);
  }
  const ok = Number(guests.every(isWell));
  file.gauge('vmar_status_ok', 'Whether no guest is overdue and no backup damaged, 0 or 1.', [{ value: ok }]);
  const now = Math.floor(Date.now() / 1000);
  file.gauge('vmar_status_timestamp_seconds', 'When these figures were made.', [{ value: now }]);
  await file.write(path);
}

function inSeconds(millis: number | undefined): number | undefined {
  return millis === undefined ? undefined : Math.floor(millis / 1000);
}
