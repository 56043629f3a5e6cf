// SPDX-License-Identifier: MIT
// vmar init

import { resolve } from 'node:path';
import type { HashName } from '../../../formats/vmar/hash.js';
import {
  DEFAULT_CLUSTER_BYTES,
  DEFAULT_MAP_FANOUT,
  MAX_CLUSTER_BYTES,
  MIN_CLUSTER_BYTES,
} from '../../../formats/vmar/limits.js';
import { WRITER_NAME } from '../../archive/writer-name.js';
import { toHex } from '../../base/bytes.js';
import { isPowerOfTwo } from '../../base/checked.js';
import { EXIT, type ExitStatus, UsageError } from '../../base/errors.js';
import { openDatastore } from '../../store/datastore.js';
import { initDatastore } from '../../store/init.js';
import type { Context } from '../context.js';
import { humanSize } from '../human.js';
import { parseSize } from '../parse-size.js';
import { printable } from '../printable.js';

export interface InitFlags {
  readonly clusterSize?: string;
  readonly hash?: string;
}

export async function run(context: Context, directory: string, flags: InitFlags): Promise<ExitStatus> {
  const clusterSizeBytes = parseClusterSize(flags.clusterSize);
  const hash = parseHash(flags.hash);
  await initDatastore(directory, {
    clusterSizeBytes,
    hash,
    mapFanout: DEFAULT_MAP_FANOUT,
    timeSeconds: Math.floor(Date.now() / 1000),
    createdBy: WRITER_NAME,
  });
  const store = await openDatastore(directory, { cacheDir: context.cacheDirectory, log: context.log });
  const uuid = toHex(store.superblock.storeUuid);
  await store.close();
  context.output.summary(
    () => ({ datastore: resolve(directory), uuid, clusterSize: clusterSizeBytes, hash }),
    () => `${printable(directory)} is a datastore: clusters of ${humanSize(clusterSizeBytes)}, ${hash}, uuid ${uuid}`,
  );
  return EXIT.done;
}

function parseClusterSize(text: string | undefined): number {
  if (text === undefined) return DEFAULT_CLUSTER_BYTES;
  const bytes = parseSize(text, '--cluster-size');
  if (isPowerOfTwo(bytes, MIN_CLUSTER_BYTES, MAX_CLUSTER_BYTES)) return bytes;
  throw new UsageError('bad-cluster-size', 'this is not a cluster size', {
    object: `--cluster-size ${text}`,
    expected: 'a power of two from 64KiB to 4MiB',
  });
}

function parseHash(text: string | undefined): HashName {
  if (text === undefined || text === 'blake3') return 'blake3';
  if (text === 'sha256') return 'sha256';
  throw new UsageError('bad-hash', 'this is not a hash', { object: `--hash ${text}`, expected: 'blake3 or sha256' });
}
