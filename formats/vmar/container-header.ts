// SPDX-License-Identifier: MIT
// The first 256 bytes of a container (SPEC.md §4.1).

import { asBuffer, bytesEqual } from '../../src/base/bytes.js';
import { isSize } from '../../src/base/checked.js';
import { checkFeatures, type FeatureSet, newerVersion } from './features.js';
import { checkLength, getSize, isZeroField, putBytes, putSize, type Refusal, refusalOf, required } from './fields.js';
import { type HashName, hashFromNumber, hashNumber, SEAL_BYTES, sealer } from './hash.js';
import { isClusterSize, isMapFanout } from './limits.js';

export const CONTAINER_HEADER_BYTES = 256;
export const CONTAINER_MAGIC: Uint8Array = Uint8Array.of(0x89, 0x56, 0x4d, 0x41, 0x52, 0x0d, 0x0a, 0x1a);
const VERSION = 1;
const UUID_BYTES = 16;
const SEAL_AT = CONTAINER_HEADER_BYTES - SEAL_BYTES;

const USES = ['pack', 'archive'] as const;
const CONTENTS = ['data', 'maps', 'both'] as const;
export type ContainerUse = (typeof USES)[number];
export type ContainerContent = (typeof CONTENTS)[number];

export interface ContainerHeader {
  readonly use: ContainerUse;
  readonly features: FeatureSet;
  /** 16 random bytes. */
  readonly containerId: Uint8Array;
  /** 16 bytes; all zero in an archive. */
  readonly storeUuid: Uint8Array;
  /** 16 bytes: the host that wrote it. */
  readonly writerId: Uint8Array;
  readonly clusterSizeBytes: number;
  readonly hash: HashName;
  readonly content: ContainerContent;
  readonly mapFanout: number;
  readonly createdSeconds: number;
}

export function encodeContainerHeader(header: ContainerHeader): Uint8Array {
  const problem = headerProblem(header);
  required(problem === undefined, `a sound container header (${problem})`);
  const bytes = Buffer.alloc(CONTAINER_HEADER_BYTES);
  bytes.set(CONTAINER_MAGIC, 0);
  bytes.writeUInt16LE(VERSION, 8);
  bytes.writeUInt16LE(CONTAINER_HEADER_BYTES, 10);
  bytes.writeUInt32LE(USES.indexOf(header.use) + 1, 12);
  bytes.writeBigUInt64LE(header.features.incompatible, 16);
  bytes.writeBigUInt64LE(header.features.readOnlyCompatible, 24);
  bytes.writeBigUInt64LE(header.features.compatible, 32);
  putBytes(bytes, 40, header.containerId, UUID_BYTES);
  putBytes(bytes, 56, header.storeUuid, UUID_BYTES);
  putBytes(bytes, 72, header.writerId, UUID_BYTES);
  bytes.writeUInt32LE(header.clusterSizeBytes, 88);
  bytes[92] = hashNumber(header.hash);
  bytes[93] = CONTENTS.indexOf(header.content) + 1;
  bytes.writeUInt16LE(header.mapFanout, 94);
  putSize(bytes, 96, header.createdSeconds);
  bytes.set(sealer(header.hash)(bytes.subarray(0, SEAL_AT)), SEAL_AT);
  return bytes;
}

/**
 * For reading; a writer checks the features of the result once more.
 * @throws DamageError if it is no container or damaged, FailedError if it is of a newer version or has an unknown
 * incompatible feature
 */
export function decodeContainerHeader(first256: Uint8Array, object: string): ContainerHeader {
  const refuse = refusalOf('container-damaged', { object, offsetBytes: 0 });
  checkLength(first256, CONTAINER_HEADER_BYTES, 'the header of the container', refuse);
  const bytes = asBuffer(first256).subarray(0, CONTAINER_HEADER_BYTES);
  if (!bytesEqual(bytes.subarray(0, 8), CONTAINER_MAGIC)) throw refuse('this is not a vmar container');
  const hash = hashFromNumber(bytes[92]!);
  if (hash === undefined) throw refuse('the hash algorithm is unknown', { found: `${bytes[92]}` });
  const seal = sealer(hash)(bytes.subarray(0, SEAL_AT));
  if (!bytesEqual(seal, bytes.subarray(SEAL_AT))) throw refuse('the seal of the header does not match');
  const version = bytes.readUInt16LE(8);
  if (version > VERSION) throw newerVersion('the container', version, object);
  const features = {
    incompatible: bytes.readBigUInt64LE(16),
    readOnlyCompatible: bytes.readBigUInt64LE(24),
    compatible: bytes.readBigUInt64LE(32),
  };
  checkFeatures(features, object, { forWriting: false });
  if (version !== VERSION || bytes.readUInt16LE(10) !== CONTAINER_HEADER_BYTES || !isZeroField(bytes, 104, SEAL_AT)) {
    throw refuse('the header of the container is not laid out as its version says');
  }
  return readHeader(bytes, hash, features, refuse);
}

function readHeader(bytes: Buffer, hash: HashName, features: FeatureSet, refuse: Refusal): ContainerHeader {
  const use = USES[bytes.readUInt32LE(12) - 1];
  const content = CONTENTS[bytes[93]! - 1];
  if (use === undefined || content === undefined) throw refuse('the use or the content of the container is unknown');
  const header: ContainerHeader = {
    use,
    features,
    containerId: bytes.subarray(40, 56),
    storeUuid: bytes.subarray(56, 72),
    writerId: bytes.subarray(72, 88),
    clusterSizeBytes: bytes.readUInt32LE(88),
    hash,
    content,
    mapFanout: bytes.readUInt16LE(94),
    createdSeconds: getSize(bytes, 96),
  };
  const problem = headerProblem(header);
  if (problem !== undefined) throw refuse(`the header of the container is wrong: ${problem}`);
  return header;
}

/** What is wrong with the values, or undefined. */
function headerProblem(header: ContainerHeader): string | undefined {
  if (!isClusterSize(header.clusterSizeBytes)) return `a cluster size of ${header.clusterSizeBytes}`;
  if (!isMapFanout(header.mapFanout)) return `a map fan-out of ${header.mapFanout}`;
  if (!isSize(header.createdSeconds)) return 'a time past 2^53';
  if (header.use === 'archive' && !isZeroField(header.storeUuid, 0, UUID_BYTES)) return 'an archive of a datastore';
  return undefined;
}
