// SPDX-License-Identifier: MIT
// Checks a .vma file: headers, that every cluster of every disk is there once, that it ends where an extent ends, and the
// checksum of its compression. The format has none of what disks hold.

import { statSync } from 'node:fs';
import { CLUSTER_BYTES } from '../../../formats/vma/limits.js';
import { DamageError } from '../../base/errors.js';
import {
  type Checked,
  type DamageKind,
  type DamageRecord,
  nothingChecked,
  type VerifyReport,
} from '../verify/damage.js';
import { openBytes } from './open-bytes.js';
import { VmaInput, type VmaTarget } from './vma-input.js';

export interface VerifyVmaOptions {
  readonly signal?: AbortSignal;
  readonly onStart?: (bytes: number) => void;
  readonly onProgress?: (bytes: number) => void;
}

const NOWHERE: VmaTarget = { data: async () => {}, zeros: async () => {} };

const KINDS: Readonly<Record<string, DamageKind>> = {
  'no-vma': 'vma-header',
  'vma-header': 'vma-header',
  'vma-extent': 'vma-extent',
  'vma-cluster': 'vma-cluster',
  'vma-cut': 'vma-cut',
  'vma-incomplete': 'vma-incomplete',
};

/** Damage is reported, not thrown; the first ends the reading. @throws NotFoundError, FailedError, InterruptedError */
export async function verifyVma(path: string, options: VerifyVmaOptions): Promise<VerifyReport> {
  const { onStart, onProgress, signal } = options;
  const checked: Checked = { ...nothingChecked(), backups: 1 };
  const onRead = (bytes: number): void => {
    checked.storedBytes += bytes;
    onProgress?.(bytes);
  };
  const stream = await openBytes(path, { onRead, ...(signal === undefined ? {} : { signal }) });
  let input: VmaInput | undefined;
  try {
    onStart?.(statSync(path).size);
    input = await VmaInput.open(stream);
    const { extents, clusters, dataBytes, devices } = await input.copyTo(NOWHERE, signal);
    Object.assign(checked, { extents, clusters, rawBytes: dataBytes, disks: devices.length });
    return { checked, damage: [] };
  } catch (error) {
    if (!(error instanceof DamageError)) throw error;
    return { checked, damage: damageOf(path, error, input) };
  } finally {
    await stream.close();
  }
}

/** Of missing clusters one record a device. */
function damageOf(path: string, error: DamageError, input: VmaInput | undefined): DamageRecord[] {
  const kind = KINDS[error.code] ?? 'compression';
  const place = { file: path, offsetBytes: error.offsetBytes ?? 0, lengthBytes: 0, kind, backups: new Set([path]) };
  if (input === undefined || kind !== 'vma-incomplete') {
    return [{ ...place, problem: error.message, disks: new Set() }];
  }
  return input.missing.map(({ device, first, count, total }) => ({
    ...place,
    problem: `${count} of ${total} clusters of device ${device.name} are missing, the first at byte ${first * CLUSTER_BYTES} of it`,
    disks: new Set([`${path}:${device.name}`]),
  }));
}
