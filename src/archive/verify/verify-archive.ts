// SPDX-License-Identifier: MIT
// Verifies one self-contained archive: every byte of it, and that its maps can be followed to the last cluster.

import type { ManifestDisk } from '../../../formats/vmar/manifest.js';
import { DamageError, InterruptedError } from '../../base/errors.js';
import { ContainerReader } from '../../store/container-reader.js';
import { ArchiveChunks } from '../archive-chunks.js';
import { readArchiveManifest } from '../open-backup.js';
import { takingTurns } from '../turns.js';
import { DamageList, nothingChecked, type VerifyReport } from './damage.js';
import { DamagedPlaces } from './damaged-places.js';
import { rangeInContainer } from './damaged-range.js';
import { followAll } from './follow-all.js';
import { GoodPlaces } from './good-places.js';
import { LostChunks } from './lost-chunks.js';
import { verifyContainer } from './verify-container.js';
import { createVerifyExecutor, type VerifyOptions } from './verify-datastore.js';
import { MapVerifier } from './verify-maps.js';

/**
 * Damage of header or footer is reported like any other.
 * @throws NotFoundError if there is no such file, FailedError if it is newer, or no archive but a pack.
 */
export async function verifyArchive(path: string, options: Omit<VerifyOptions, 'backups'>): Promise<VerifyReport> {
  const damage = new DamageList();
  const report: VerifyReport = { checked: nothingChecked(), damage: damage.records };
  let reader: ContainerReader;
  try {
    reader = ContainerReader.open(path);
  } catch (error) {
    if (!(error instanceof DamageError)) throw error;
    const record = damage.add({ file: path, ...rangeInContainer(error), kind: 'container', problem: error.message });
    damage.touch(record, path, undefined);
    return report;
  }
  const executor = createVerifyExecutor(options, reader.header.hash, reader.header.clusterSizeBytes);
  try {
    options.onStart?.(reader.fileBytes);
    const { mode, portable, signal, onProgress } = options;
    const damagedPlaces = new DamagedPlaces();
    await verifyContainer({
      ...{ reader, mode, executor, implementation: portable ? 'reference' : 'native' },
      ...{ damage, damagedPlaces, checked: report.checked },
      ...(signal === undefined ? {} : { signal }),
      ...(onProgress === undefined ? {} : { onProgress }),
    });
    await verifyContent(reader, damage, report.checked, damagedPlaces, signal);
    // Whatever is damaged in an archive is its one backup's.
    for (let record = 0; record < damage.records.length; record++) damage.touch(record, path, undefined);
    return report;
  } catch (error) {
    throw options.signal?.aborted === true ? new InterruptedError() : error;
  } finally {
    await executor.close();
    reader.close();
  }
}

async function verifyContent(
  reader: ContainerReader,
  damage: DamageList,
  checked: VerifyReport['checked'],
  damagedPlaces: DamagedPlaces,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { path: file } = reader;
  try {
    const { manifest } = readArchiveManifest(reader);
    const takeTurn = takingTurns(signal);
    const lost = new LostChunks(new ArchiveChunks(reader), takeTurn);
    const places = new GoodPlaces(lost, damage, damagedPlaces, async () => {});
    const maps = new MapVerifier(places, damage, checked, takeTurn);
    checked.backups++;
    const suspects = (): readonly number[] => [];
    const follow = async (disk: ManifestDisk): Promise<boolean> =>
      await maps.verifyDisk({ backup: file, file, disk, fanout: manifest.mapFanout, suspects });
    await followAll({ items: manifest.disks, follow, lost, isOver: () => false });
  } catch (error) {
    if (!(error instanceof DamageError)) throw error;
    const at = reader.footer.manifestExtentOffset;
    // Most often its frame or head was found damaged before.
    const isKnown = damage.records.some(({ offsetBytes, lengthBytes }) => offsetBytes + lengthBytes > at && at > 0);
    if (isKnown) return;
    damage.add({ file, offsetBytes: at, lengthBytes: 0, kind: 'manifest', problem: error.message });
  }
}
