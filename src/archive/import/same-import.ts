// SPDX-License-Identifier: MIT
// Whether an archive is the backup whose UUID it bears.

import type { Manifest } from '../../../formats/vmar/manifest.js';
import { bytesEqual } from '../../base/bytes.js';
import type { BackupDescription } from '../../plugin-api.js';
import { withoutCompanions } from './companions.js';

type Configs = BackupDescription['configs'];

/** By what is known before its content is read. A backup without a UUID has one that is made of its content. */
export function looksSame(manifest: Manifest, described: BackupDescription): boolean {
  if (manifest.sourceUuid.byteLength === 0) return true;
  return (
    manifest.timeSeconds === described.timeSeconds &&
    areSameConfigs(manifest.configs, described.configs) &&
    manifest.disks.length === described.disks.length &&
    described.disks.every(({ name, sizeBytes }, at) => {
      const disk = manifest.disks[at];
      return disk?.name === name && (sizeBytes === undefined || disk.sizeBytes === sizeBytes);
    })
  );
}

/** By all that it holds; what it is called, when it is from, and what lay beside it do not count. */
export function isSameContent(manifest: Manifest, made: Manifest): boolean {
  return (
    areSameConfigs(manifest.configs, made.configs) &&
    manifest.disks.length === made.disks.length &&
    made.disks.every(({ name, sizeBytes, clusterSizeBytes, mapRoot }, at) => {
      const disk = manifest.disks[at];
      const isOfOneShape = disk?.name === name && disk.sizeBytes === sizeBytes;
      return isOfOneShape && disk.clusterSizeBytes === clusterSizeBytes && bytesEqual(disk.mapRoot, mapRoot);
    })
  );
}

function areSameConfigs(left: Configs, right: Configs): boolean {
  const [ours, theirs] = [withoutCompanions(left), withoutCompanions(right)];
  return (
    ours.length === theirs.length &&
    ours.every(({ name, content }, at) => {
      const other = theirs[at];
      return other?.name === name && bytesEqual(other.content, content);
    })
  );
}
