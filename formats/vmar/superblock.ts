// SPDX-License-Identifier: MIT
// The superblock of a datastore, `datastore.pb`: a message in an envelope.

import { isSize } from '../../src/base/checked.js';
import { UsageError } from '../../src/base/errors.js';
import { decodeEnvelope, encodeEnvelope } from './envelope.js';
import { type FeatureSet, NO_FEATURES } from './features.js';
import { refusalOf } from './fields.js';
import { vmar } from './generated/vmar.js';
import type { HashName } from './hash.js';
import { isClusterSize, isMapFanout } from './limits.js';
import { checkMessageHash, decodeMessage, messageHash, uint64 } from './protobuf.js';

const UUID_BYTES = 16;

/** What makes a datastore; nothing of it ever changes. */
export interface SuperblockFields {
  /** 16 random bytes. */
  readonly storeUuid: Uint8Array;
  readonly clusterSizeBytes: number;
  readonly hash: HashName;
  /** Ids in one full map page. */
  readonly mapFanout: number;
  readonly createdSeconds: number;
  /** Name and version of the program. */
  readonly createdBy: string;
}

export interface Superblock extends SuperblockFields {
  /** Of its envelope; a writer checks them with `checkFeatures`. */
  readonly features: FeatureSet;
}

/**
 * The whole file.
 * @throws UsageError for values that no datastore may have
 */
export function encodeSuperblock(superblock: SuperblockFields & { readonly features?: FeatureSet }): Uint8Array {
  const problem = superblockProblem(superblock);
  if (problem !== undefined) throw new UsageError('bad-superblock', `a datastore cannot be made so: ${problem}`);
  const { storeUuid, clusterSizeBytes, hash, mapFanout, createdSeconds, createdBy, features } = superblock;
  const message = { storeUuid, clusterSize: clusterSizeBytes, hash: messageHash(hash), mapFanout };
  const payload = vmar.v1.Superblock.encode({ ...message, createdSeconds, createdBy }).finish();
  return encodeEnvelope('VMARSTOR', hash, features ?? NO_FEATURES, payload, 'seal');
}

/**
 * Checks and reads the whole file.
 * @throws DamageError, or FailedError if it is of a newer version or has an unknown incompatible feature
 */
export function decodeSuperblock(bytes: Uint8Array, object: string): Superblock {
  const { payload, hash, features } = decodeEnvelope(bytes, 'VMARSTOR', 'seal', object);
  const refuse = refusalOf('superblock-damaged', { object, offsetBytes: 0 });
  const message = decodeMessage((reader) => vmar.v1.Superblock.decode(reader), payload, {}, refuse);
  const superblock: Superblock = {
    storeUuid: message.storeUuid,
    clusterSizeBytes: message.clusterSize,
    hash: checkMessageHash(message.hash, hash, refuse),
    mapFanout: message.mapFanout,
    createdSeconds: uint64(message.createdSeconds),
    createdBy: message.createdBy,
    features,
  };
  const problem = superblockProblem(superblock);
  if (problem !== undefined) throw refuse(`the superblock is wrong: ${problem}`);
  return superblock;
}

/** What is wrong with the values, or undefined. */
function superblockProblem(superblock: SuperblockFields): string | undefined {
  const { storeUuid, clusterSizeBytes, mapFanout, createdSeconds } = superblock;
  if (storeUuid.byteLength !== UUID_BYTES) return `a UUID of ${storeUuid.byteLength} bytes`;
  if (!isClusterSize(clusterSizeBytes)) return `a cluster size of ${clusterSizeBytes} bytes`;
  if (!isMapFanout(mapFanout)) return `a map fan-out of ${mapFanout}`;
  if (!isSize(createdSeconds)) return 'a time past 2^53';
  return undefined;
}
