// SPDX-License-Identifier: MIT
// Verifies one self-contained archive: every byte of it, and that its maps can be followed to the last cluster.

import { InterruptedError, VmarError } from '../../base/errors.js';
import { ContainerReader } from '../../store/container-reader.js';
import { ArchiveChunks } from '../archive-chunks.js';
import { readArchiveManifest } from '../open-backup.js';
import { DamageList, nothingChecked, type VerifyReport } from './damage.js';
import { DamagedPlaces, verifyContainer } from './verify-container.js';
import { createVerifyExecutor, type VerifyOptions } from './verify-datastore.js';
import { MapVerifier } from './verify-maps.js';

/** Damage of header or footer is reported like any other. @throws NotFoundError if there is no such file. */
export async function verifyArchive(path: string, options: Omit<VerifyOptions, 'backups'>): Promise<VerifyReport> {
  const damage = new DamageList();
  const checked = nothingChecked();
  let reader: ContainerReader;
  try {
    reader = ContainerReader.open(path);
  } catch (error) {
    if (!(error instanceof VmarError) || error.exitStatus !== 3) throw error;
    const offsetBytes = error.offsetBytes ?? 0;
    const index = damage.add({ file: path, offsetBytes, lengthBytes: 0, kind: 'container', problem: error.message });
    damage.touch(index, path, undefined);
    return { checked, damage: damage.records };
  }
  const executor = createVerifyExecutor(options, reader.header.hash, reader.header.clusterSizeBytes);
  try {
    options.onStart?.(reader.fileBytes);
    const { mode, portable, signal, onProgress } = options;
    const implementation = portable ? ('reference' as const) : ('native' as const);
    const hooks = { ...(signal === undefined ? {} : { signal }), ...(onProgress === undefined ? {} : { onProgress }) };
    const damagedPlaces = new DamagedPlaces();
    await verifyContainer({ reader, executor, mode, implementation, damage, checked, ...hooks }, damagedPlaces);
    await verifyContent(path, reader, damage, checked, damagedPlaces);
    // Whatever is damaged in an archive is its one backup's.
    for (let index = 0; index < damage.records.length; index++) damage.touch(index, path, undefined);
    return { checked, damage: damage.records };
  } catch (error) {
    throw options.signal?.aborted === true ? new InterruptedError() : error;
  } finally {
    await executor.close();
    reader.close();
  }
}

async function verifyContent(
  path: string,
  reader: ContainerReader,
  damage: DamageList,
  checked: VerifyReport['checked'],
  damagedPlaces: DamagedPlaces,
): Promise<void> {
  const maps = new MapVerifier(new ArchiveChunks(reader), damagedPlaces, damage, checked);
  try {
    const { manifest } = readArchiveManifest(reader);
    checked.backups++;
    for (const disk of manifest.disks) {
      await maps.verifyDisk({ backup: path, missingFile: path, disk, fanout: manifest.mapFanout });
    }
  } catch (error) {
    if (!(error instanceof VmarError)) throw error;
    const offsetBytes = error.offsetBytes ?? reader.footer.manifestExtentOffset;
    damage.add({ file: path, offsetBytes, lengthBytes: 0, kind: 'manifest', problem: error.message });
  }
}
