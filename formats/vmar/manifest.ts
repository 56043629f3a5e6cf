// SPDX-License-Identifier: MIT
// The manifest of one backup: a message in an envelope. What its fields mean stands in vmar.proto.

import { toHex } from '../../src/base/bytes.js';
import { FailedError, UsageError } from '../../src/base/errors.js';
import { decodeEnvelope, encodeEnvelope } from './envelope.js';
import { type FeatureSet, NO_FEATURES } from './features.js';
import { type Refusal, refusalOf } from './fields.js';
import { vmar } from './generated/vmar.js';
import type { HashName } from './hash.js';
import { MAX_CONFIGS, MAX_DISKS, MAX_PAYLOAD_BYTES } from './limits.js';
import { manifestProblem } from './manifest-checks.js';
import { checkMessageHash, decodeMessage, messageHash, uint64 } from './protobuf.js';

export type ManifestDiskKind = 'disk' | 'vmstate' | 'blob';
export type ManifestConsistency = 'offline' | 'crash' | 'agent-frozen';

export interface ManifestDisk {
  readonly name: string;
  readonly kind: ManifestDiskKind;
  readonly sizeBytes: number;
  readonly clusterSizeBytes: number;
  /** 32 bytes; all zero where the whole disk is. */
  readonly mapRoot: Uint8Array;
  /** "" for none. */
  readonly bitmapName: string;
  /** "" where a full read needs no reason. */
  readonly fullReason: string;
  readonly readBytes: number;
  readonly zeroBytes: number;
  readonly unchangedBytes: number;
  readonly newBytes: number;
  readonly storedBytes: number;
  readonly forceShared: boolean;
}

export interface ManifestConfig {
  readonly name: string;
  readonly content: Uint8Array;
}

export interface Manifest {
  /** "" for none. */
  readonly namespace: string;
  readonly guestType: 'vm';
  readonly guestId: string;
  /** "" where not known. */
  readonly guestName: string;
  /** 16 bytes, or none. */
  readonly guestUuid: Uint8Array;
  readonly timeSeconds: number;
  readonly sequence: number;
  /** 32 bytes, or none. */
  readonly previousDigest: Uint8Array;
  readonly source: string;
  /** 16 bytes, or none. */
  readonly sourceUuid: Uint8Array;
  readonly disks: readonly ManifestDisk[];
  readonly configs: readonly ManifestConfig[];
  readonly consistency: ManifestConsistency;
  /** Ids in 32 hex digits each, ascending, no one twice. */
  readonly packs: readonly string[];
  /** 16 bytes. */
  readonly writerId: Uint8Array;
  readonly writer: string;
  /** 16 bytes; none in an archive. */
  readonly storeUuid: Uint8Array;
  readonly hash: HashName;
  readonly mapFanout: number;
  readonly startedMillis: number;
  readonly finishedMillis: number;
}

/** Lengths of its disks together. */
export function diskBytes({ disks }: Pick<Manifest, 'disks'>): number {
  return disks.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

export interface DecodedManifest {
  readonly manifest: Manifest;
  /** 32 bytes. */
  readonly digest: Uint8Array;
  readonly features: FeatureSet;
}

export const PACK_ID_BYTES = 16;
/** By number in vmar.proto. */
const DISK_KINDS: readonly ManifestDiskKind[] = ['disk', 'vmstate', 'blob'];
const CONSISTENCIES: readonly (ManifestConsistency | undefined)[] = [undefined, 'offline', 'crash', 'agent-frozen'];
const DISKS_FIELD = 11;
const CONFIGS_FIELD = 12;

/**
 * The whole file; its last 32 bytes are its digest.
 * @throws UsageError for values that no manifest may have, FailedError if the configs are too long to fit in one
 */
export function encodeManifest(manifest: Manifest, features: FeatureSet = NO_FEATURES): Uint8Array {
  const problem = manifestProblem(manifest);
  if (problem !== undefined) throw new UsageError('bad-manifest', `a backup cannot be described so: ${problem}`);
  const payload = vmar.v1.Manifest.encode(toMessage(manifest)).finish();
  if (payload.byteLength > MAX_PAYLOAD_BYTES) throw tooLong(payload.byteLength, manifest);
  return encodeEnvelope('VMARMANI', manifest.hash, features, payload, 'manifest');
}

function tooLong(bytes: number, manifest: Manifest): FailedError {
  return new FailedError('manifest-too-long', 'the configuration files are too long for a backup', {
    object: manifest.guestId,
    expected: `at most ${MAX_PAYLOAD_BYTES} bytes`,
    found: `${bytes} bytes`,
  });
}

function toMessage(manifest: Manifest): vmar.v1.Manifest.$Properties {
  return {
    ...manifest,
    disks: manifest.disks.map(diskToMessage),
    configs: manifest.configs.map(({ name, content }) => ({ name, content })),
    consistency: CONSISTENCIES.indexOf(manifest.consistency),
    packs: Buffer.from(manifest.packs.join(''), 'hex'),
    hash: messageHash(manifest.hash),
  };
}

function diskToMessage(disk: ManifestDisk): vmar.v1.Disk.$Properties {
  return { ...disk, kind: DISK_KINDS.indexOf(disk.kind), clusterSize: disk.clusterSizeBytes };
}

/**
 * Checks and reads the whole file.
 * @throws DamageError, or FailedError if it is of a newer version or has an unknown incompatible feature
 */
export function decodeManifest(bytes: Uint8Array, object: string): DecodedManifest {
  const { payload, hash, features, digest } = decodeEnvelope(bytes, 'VMARMANI', 'manifest', object);
  const refuse = refusalOf('manifest-damaged', { object, offsetBytes: 0 });
  const limits = { [DISKS_FIELD]: MAX_DISKS, [CONFIGS_FIELD]: MAX_CONFIGS };
  const message = decodeMessage((reader) => vmar.v1.Manifest.decode(reader), payload, limits, refuse);
  const manifest = fromMessage(message, hash, refuse);
  const problem = manifestProblem(manifest);
  if (problem !== undefined) throw refuse(`the manifest is wrong: ${problem}`);
  return { manifest, digest, features };
}

function fromMessage(message: vmar.v1.Manifest, hash: HashName, refuse: Refusal): Manifest {
  const consistency = CONSISTENCIES[message.consistency];
  if (message.guestType !== 'vm' || consistency === undefined) {
    throw refuse('the manifest is of an unknown type of guest or consistency');
  }
  return {
    namespace: message.namespace,
    guestType: 'vm',
    guestId: message.guestId,
    guestName: message.guestName,
    guestUuid: message.guestUuid,
    timeSeconds: uint64(message.timeSeconds),
    sequence: uint64(message.sequence),
    previousDigest: message.previousDigest,
    source: message.source,
    sourceUuid: message.sourceUuid,
    disks: message.disks.map((disk) => diskFromMessage(disk as vmar.v1.Disk, refuse)),
    configs: message.configs.map((config) => ({ name: config.name ?? '', content: config.content ?? NO_BYTES })),
    consistency,
    packs: packIds(message.packs, refuse),
    writerId: message.writerId,
    writer: message.writer,
    storeUuid: message.storeUuid,
    hash: checkMessageHash(message.hash, hash, refuse),
    mapFanout: message.mapFanout,
    startedMillis: uint64(message.startedMillis),
    finishedMillis: uint64(message.finishedMillis),
  };
}

const NO_BYTES = new Uint8Array(0);

function diskFromMessage(disk: vmar.v1.Disk, refuse: Refusal): ManifestDisk {
  const kind = DISK_KINDS[disk.kind];
  if (kind === undefined) throw refuse('a disk is of an unknown kind', { found: `${disk.kind}` });
  return {
    name: disk.name,
    kind,
    sizeBytes: uint64(disk.sizeBytes),
    clusterSizeBytes: disk.clusterSize,
    mapRoot: disk.mapRoot,
    bitmapName: disk.bitmapName,
    fullReason: disk.fullReason,
    readBytes: uint64(disk.readBytes),
    zeroBytes: uint64(disk.zeroBytes),
    unchangedBytes: uint64(disk.unchangedBytes),
    newBytes: uint64(disk.newBytes),
    storedBytes: uint64(disk.storedBytes),
    forceShared: disk.forceShared,
  };
}

function packIds(packs: Uint8Array, refuse: Refusal): string[] {
  if (packs.byteLength % PACK_ID_BYTES !== 0) throw refuse('the list of packs is cut off');
  const hex = toHex(packs);
  return Array.from({ length: packs.byteLength / PACK_ID_BYTES }, (_, index) =>
    hex.slice(index * PACK_ID_BYTES * 2, (index + 1) * PACK_ID_BYTES * 2),
  );
}
