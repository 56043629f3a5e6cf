// SPDX-License-Identifier: MIT
// What every manifest keeps to. The same checks guard encoding and decoding.

import { isSize } from '../../src/base/checked.js';
import { isZeroField } from './fields.js';
import { DIGEST_BYTES, ID_BYTES } from './hash.js';
import { isClusterSize, isMapFanout, MAX_CONFIGS, MAX_DISKS, MAX_MAP_LEVELS } from './limits.js';
import type { Manifest, ManifestDisk } from './manifest.js';
import { clusterCount, mapLevels } from './map.js';
import { isConfigName, isName, isNamespace, isTime } from './names.js';

const UUID_BYTES = 16;
const PACK_ID = /^[0-9a-f]{32}$/;

/** What is wrong with the values, or undefined. */
export function manifestProblem(manifest: Manifest): string | undefined {
  return guestProblem(manifest) ?? originProblem(manifest) ?? packsProblem(manifest.packs) ?? contentProblem(manifest);
}

function guestProblem(manifest: Manifest): string | undefined {
  const { namespace, guestType, guestId, guestUuid, timeSeconds, sequence, previousDigest } = manifest;
  if (namespace !== '' && !isNamespace(namespace)) return `the namespace ${JSON.stringify(namespace)}`;
  if (guestType !== 'vm') return `a guest of type ${JSON.stringify(guestType)}`;
  if (!isName(guestId)) return `the guest id ${JSON.stringify(guestId)}`;
  if (!isEmptyOr(guestUuid, UUID_BYTES)) return `a guest UUID of ${guestUuid.byteLength} bytes`;
  if (!isTime(timeSeconds)) return `the time ${timeSeconds}`;
  if (!isSize(sequence) || sequence < 1) return `the sequence number ${sequence}`;
  if (!isEmptyOr(previousDigest, DIGEST_BYTES)) return `a digest of ${previousDigest.byteLength} bytes`;
  return undefined;
}

function originProblem(manifest: Manifest): string | undefined {
  const { sourceUuid, writerId, storeUuid, mapFanout, startedMillis, finishedMillis } = manifest;
  if (!isEmptyOr(sourceUuid, UUID_BYTES)) return `a source UUID of ${sourceUuid.byteLength} bytes`;
  if (writerId.byteLength !== UUID_BYTES) return `a writer id of ${writerId.byteLength} bytes`;
  if (!isEmptyOr(storeUuid, UUID_BYTES)) return `a datastore UUID of ${storeUuid.byteLength} bytes`;
  if (!isMapFanout(mapFanout)) return `a map fan-out of ${mapFanout}`;
  if (!isSize(startedMillis) || !isSize(finishedMillis)) return 'a time past 2^53';
  return undefined;
}

function packsProblem(packs: readonly string[]): string | undefined {
  for (const [index, pack] of packs.entries()) {
    if (!PACK_ID.test(pack)) return `the pack ${JSON.stringify(pack)}`;
    if (index > 0 && pack <= packs[index - 1]!) return 'packs that are not in ascending order';
  }
  return undefined;
}

function contentProblem(manifest: Manifest): string | undefined {
  const { disks, configs, mapFanout } = manifest;
  if (disks.length > MAX_DISKS) return `${disks.length} disks`;
  if (configs.length > MAX_CONFIGS) return `${configs.length} configuration files`;
  for (const disk of disks) {
    const problem = diskProblem(disk, mapFanout);
    if (problem !== undefined) return `the disk ${JSON.stringify(disk.name)}: ${problem}`;
  }
  const wrong = configs.find((config) => !isConfigName(config.name));
  if (wrong !== undefined) return `the configuration file ${JSON.stringify(wrong.name)}`;
  return twice(disks) ?? twice(configs);
}

function diskProblem(disk: ManifestDisk, mapFanout: number): string | undefined {
  if (!isName(disk.name)) return 'its name';
  if (!isSize(disk.sizeBytes)) return `a length of ${disk.sizeBytes} bytes`;
  if (!isClusterSize(disk.clusterSizeBytes)) return `a cluster size of ${disk.clusterSizeBytes} bytes`;
  if (disk.mapRoot.byteLength !== ID_BYTES) return `a map root of ${disk.mapRoot.byteLength} bytes`;
  const levels = mapLevels(clusterCount(disk.sizeBytes, disk.clusterSizeBytes), mapFanout);
  if (levels > MAX_MAP_LEVELS) return `a map of ${levels} levels`;
  if (levels === 0 && !isZeroField(disk.mapRoot, 0, ID_BYTES)) return 'a map, though it is empty';
  const { readBytes, zeroBytes, unchangedBytes, newBytes, storedBytes } = disk;
  const counts = [readBytes, zeroBytes, unchangedBytes, newBytes, storedBytes];
  const wrong = counts.find((bytes) => !isSize(bytes));
  return wrong === undefined ? undefined : `a count of ${wrong} bytes`;
}

function twice(list: readonly { readonly name: string }[]): string | undefined {
  const names = new Set<string>();
  for (const { name } of list) {
    if (names.has(name)) return `two of the name ${JSON.stringify(name)}`;
    names.add(name);
  }
  return undefined;
}

function isEmptyOr(bytes: Uint8Array, length: number): boolean {
  return bytes.byteLength === 0 || bytes.byteLength === length;
}
