// SPDX-License-Identifier: MIT
// What vmar stats tells Prometheus.

import { ratioOf } from '../../archive/stats/periods.js';
import type { Amounts, StoreStats } from '../../archive/stats/stats.js';
import { formatGuest } from '../../store/backup-id.js';
import { MetricsFile } from './metrics-file.js';

const AMOUNTS: readonly (readonly [name: string, help: string, of: (amounts: Amounts) => number])[] = [
  ['size_bytes', 'Lengths of the disks of all backups.', ({ sizeBytes }) => sizeBytes],
  ['logical_bytes', 'What of the disks of all backups is not zero.', ({ logicalBytes }) => logicalBytes],
  ['unique_bytes', 'Chunks that backups need, each once, before compression.', ({ uniqueBytes }) => uniqueBytes],
  ['stored_bytes', 'What the chunks that backups need take, compressed.', ({ storedBytes }) => storedBytes],
];

/** @throws FailedError if the file cannot be written */
export async function writeStatsMetrics(path: string, datastore: string, stats: StoreStats): Promise<void> {
  const file = new MetricsFile({ datastore });
  const guests = stats.guests.map((guest) => ({ labels: { guest: formatGuest(guest.guest) }, guest }));
  for (const [name, help, of] of AMOUNTS) {
    file.gauge(`vmar_store_${name}`, help, [{ value: of(stats) }]);
    file.gauge(
      `vmar_guest_${name}`,
      `${help.slice(0, -1)}, by guest.`,
      guests.map(({ labels, guest }) => ({ labels, value: of(guest) })),
    );
  }
  file.gauge(
    'vmar_guest_alone_bytes',
    'What of the stored bytes no other guest needs.',
    guests.map(({ labels, guest }) => ({ labels, value: guest.aloneBytes })),
  );
  file.gauge('vmar_store_dedup_ratio', 'Logical bytes for each byte stored.', [{ value: ratioOf(stats) }]);
  file.gauge('vmar_store_backups', 'How many backups there are.', [{ value: stats.backups.length }]);
  file.gauge('vmar_store_packs', 'How many packs there are.', [{ value: stats.packs.packs }]);
  file.gauge('vmar_store_pack_bytes', 'Lengths of the packs.', [{ value: stats.packs.bytes }]);
  file.gauge('vmar_store_unused_bytes', 'What of the packs no backup needs.', [{ value: stats.unusedBytes }]);
  const damaged = stats.damagedManifests.length + stats.damagedPacks.length + stats.lost.length;
  file.gauge('vmar_store_damaged_files', 'Manifests, packs and maps that could not be read.', [{ value: damaged }]);
  file.gauge('vmar_stats_timestamp_seconds', 'When these figures were made.', [
    { value: Math.floor(Date.now() / 1000) },
  ]);
  await file.write(path);
}
