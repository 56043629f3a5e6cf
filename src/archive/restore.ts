// SPDX-License-Identifier: MIT
// Restores disks of a backup to files and devices.
//
// Guarantees: every target is looked at before the first byte is written to any; once it resolves, all content is
// durable; when it rejects, files that it made are gone again; where it is killed, no file that it made has the name of
// its target unless it is whole.

import type { ManifestDisk } from '../../formats/vmar/manifest.js';
import { DamageError, FailedError, InterruptedError } from '../base/errors.js';
import type { Executor } from '../pipeline/executor.js';
import { openBackupDisk } from './backup-disk.js';
import { ChunkReader } from './chunk-reader.js';
import { DeviceTarget, type OpenDevice } from './device-target.js';
import { findDisk } from './find-disk.js';

export { findDisk } from './find-disk.js';

import { MapReader } from './map-reader.js';
import type { OpenBackup } from './open-backup.js';
import { type RestoreResult, restoreDisk } from './restore-disk.js';
import { type OpenTarget, openTarget } from './restore-target.js';
import { restoreToDevice } from './restore-to-device.js';

export interface DiskAssignment {
  readonly disk: string;
  /** The path of a file or block device, or what `openDevice` takes. */
  readonly target: string;
}

export interface RestoreBackupOptions {
  readonly executor: Executor;
  readonly overwrite: boolean;
  readonly targetIsZero: boolean;
  /** Go on past damage with zeros in its place. */
  readonly allowDamaged: boolean;
  /** Opens targets that are no paths. */
  readonly openDevice?: OpenDevice;
  readonly signal?: AbortSignal;
  readonly onStart?: (totalBytes: number) => void;
  readonly onProgress?: (bytes: number) => void;
  readonly onNotice?: (text: string) => void;
}

export interface RestoredDisk {
  readonly name: string;
  readonly target: string;
  readonly sizeBytes: number;
  readonly writtenBytes: number;
  readonly zeroBytes: number;
}

export interface DamagedRange {
  readonly disk: string;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly problem: string;
}

export interface RestoreSummary {
  readonly disks: readonly RestoredDisk[];
  /** Ranges that hold zeros in place of what was lost; only with `allowDamaged`. */
  readonly damaged: readonly DamagedRange[];
}

/** @throws DamageError at the first damage unless `allowDamaged`; InterruptedError when the signal fires. */
export async function restoreBackup(
  backup: OpenBackup,
  assignments: readonly DiskAssignment[],
  options: RestoreBackupOptions,
): Promise<RestoreSummary> {
  const disks = assignments.map(({ disk, target }) => ({ disk: findDisk(backup.manifest, disk), path: target }));
  const targets: (OpenTarget | DeviceTarget)[] = [];
  const endSearch = (): void => backup.source.endSearch?.();
  options.signal?.addEventListener('abort', endSearch, { once: true });
  try {
    for (const { disk, path } of disks) {
      const device = await options.openDevice?.(path);
      const target =
        device === undefined
          ? await openTarget(path, disk.sizeBytes, options)
          : await DeviceTarget.open(device, path, disk.sizeBytes, options);
      targets.push(target);
      if (target.excessBytes > 0)
        options.onNotice?.(`${path} is larger than ${disk.name} by ${target.excessBytes} bytes`);
    }
    options.onStart?.(disks.reduce((sum, { disk }) => sum + disk.sizeBytes, 0));
    const summary = await restoreAll(backup, disks, targets, options);
    // All content first: files of a backup get their names together, or none does.
    for (const target of targets) await target.flush();
    for (const target of targets) await target.finish();
    return summary;
  } catch (error) {
    for (const target of targets) await target.abandon().catch(() => undefined);
    throw options.signal?.aborted === true ? new InterruptedError() : error;
  } finally {
    options.signal?.removeEventListener('abort', endSearch);
  }
}

async function restoreAll(
  backup: OpenBackup,
  disks: readonly { disk: ManifestDisk; path: string }[],
  targets: readonly (OpenTarget | DeviceTarget)[],
  options: RestoreBackupOptions,
): Promise<RestoreSummary> {
  const restored: RestoredDisk[] = [];
  const damaged: DamagedRange[] = [];
  const chunks = new ChunkReader(backup.source);
  for (const [index, { disk, path }] of disks.entries()) {
    const { name, sizeBytes } = disk;
    const target = targets[index]!;
    const result = await (target instanceof DeviceTarget
      ? toDevice(backup, disk, target, options)
      : toFile(backup, chunks, disk, target, options)
    ).catch((error: unknown) => {
      throw error instanceof DamageError ? inDisk(error, name) : onTarget(error, path);
    });
    const { writtenBytes, zeroBytes } = result;
    restored.push({ name, target: path, sizeBytes, writtenBytes, zeroBytes });
    for (const range of result.lost) damaged.push({ disk: name, ...range });
  }
  return { disks: restored, damaged };
}

function toFile(
  backup: OpenBackup,
  chunks: ChunkReader,
  { mapRoot, sizeBytes, clusterSizeBytes }: ManifestDisk,
  target: OpenTarget,
  options: RestoreBackupOptions,
): Promise<RestoreResult> {
  const { source, manifest } = backup;
  const map = new MapReader(chunks, { root: mapRoot, sizeBytes, clusterSizeBytes, fanout: manifest.mapFanout });
  const { executor } = options;
  return restoreDisk({ ...common(options), source, chunks, map, sizeBytes, clusterSizeBytes, target, executor });
}

async function toDevice(
  backup: OpenBackup,
  { name }: ManifestDisk,
  { device, writeZeros }: DeviceTarget,
  options: RestoreBackupOptions,
): Promise<RestoreResult> {
  const disk = await openBackupDisk(backup, name, { executor: options.executor });
  try {
    return await restoreToDevice({ ...common(options), disk, target: device, writeZeros });
  } finally {
    await disk.close();
  }
}

function common({ allowDamaged, signal, onProgress }: RestoreBackupOptions) {
  return {
    allowDamaged,
    ...(signal === undefined ? {} : { signal }),
    ...(onProgress === undefined ? {} : { onProgress }),
  };
}

function inDisk(error: DamageError, disk: string): DamageError {
  return new DamageError(error.code, `disk ${disk} cannot be restored whole: ${error.message}`, {
    ...(error.object === undefined ? {} : { object: error.object }),
    ...(error.offsetBytes === undefined ? {} : { offsetBytes: error.offsetBytes }),
    advice: 'Run `vmar verify` to see what is damaged; --allow-damaged restores the rest with zeros in its place.',
    cause: error,
  });
}

/** Workers know targets by their descriptors only. */
function onTarget(error: unknown, path: string): unknown {
  if (!(error instanceof FailedError) || error.code !== 'write-failed' || error.object !== undefined) return error;
  return new FailedError(error.code, error.message, {
    object: path,
    ...(error.offsetBytes === undefined ? {} : { offsetBytes: error.offsetBytes }),
    advice: 'Make sure that there is room on the target; look in the kernel log for errors of its disk.',
    cause: error,
  });
}
