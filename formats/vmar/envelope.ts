// SPDX-License-Identifier: MIT
// The envelope around the superblock, manifests, sidecars and the messages in state/ (SPEC.md §6).

import { asBuffer, bytesEqual } from '../../src/base/bytes.js';
import { checkFeatures, type FeatureSet, newerVersion } from './features.js';
import { checkLength, putBytes, type Refusal, refusalOf, required } from './fields.js';
import { createHasher, DIGEST_BYTES, type Hasher, type HashName, hashFromNumber, hashNumber } from './hash.js';
import { ENVELOPE_OVERHEAD_BYTES, MAX_PAYLOAD_BYTES } from './limits.js';

export const ENVELOPE_HEADER_BYTES = 40;
const VERSION = 1;
const MAGIC_BYTES = 8;

/** Superblock, manifest, sidecar, verify history, damage list, job report. */
export type EnvelopeMagic = 'VMARSTOR' | 'VMARMANI' | 'VMARSIDE' | 'VMARVERI' | 'VMARDAMG' | 'VMARJOBR';
/** 'manifest' for manifests and sidecars, 'seal' for all else. */
export type EnvelopeContext = 'manifest' | 'seal';

const NAMES: Readonly<Record<EnvelopeMagic, string>> = {
  VMARSTOR: 'superblock',
  VMARMANI: 'manifest',
  VMARSIDE: 'sidecar',
  VMARVERI: 'verify history',
  VMARDAMG: 'damage list',
  VMARJOBR: 'report',
};

export interface Envelope {
  /** A view. */
  readonly payload: Uint8Array;
  readonly hash: HashName;
  readonly features: FeatureSet;
  /** 32 bytes, a view. */
  readonly digest: Uint8Array;
}

const hashers = new Map<string, Hasher>();

function digestOf(bytes: Uint8Array, hash: HashName, context: EnvelopeContext): Uint8Array {
  const name = `${hash} ${context}`;
  let hasher = hashers.get(name);
  if (hasher === undefined) {
    hasher = createHasher(hash, context);
    hashers.set(name, hasher);
  }
  return hasher.digest(bytes);
}

export function encodeEnvelope(
  magic: EnvelopeMagic,
  hash: HashName,
  features: FeatureSet,
  payload: Uint8Array,
  context: EnvelopeContext,
): Uint8Array {
  required(payload.byteLength <= MAX_PAYLOAD_BYTES, 'at most 16 MiB in an envelope');
  const bytes = Buffer.alloc(payload.byteLength + ENVELOPE_OVERHEAD_BYTES);
  bytes.write(magic, 0, 'latin1');
  bytes.writeUInt16LE(VERSION, 8);
  bytes[10] = hashNumber(hash);
  bytes.writeUInt32LE(payload.byteLength, 12);
  bytes.writeBigUInt64LE(features.incompatible, 16);
  bytes.writeBigUInt64LE(features.readOnlyCompatible, 24);
  bytes.writeBigUInt64LE(features.compatible, 32);
  bytes.set(payload, ENVELOPE_HEADER_BYTES);
  const end = ENVELOPE_HEADER_BYTES + payload.byteLength;
  putBytes(bytes, end, digestOf(bytes.subarray(0, end), hash, context), DIGEST_BYTES);
  return bytes;
}

/** The digest in a whole envelope, which is its last 32 bytes; not checked. A copy. */
export function envelopeDigest(envelope: Uint8Array): Uint8Array {
  return Uint8Array.prototype.slice.call(envelope, envelope.byteLength - DIGEST_BYTES);
}

/**
 * Opens an envelope of one kind, for reading; a writer checks the features of the result once more.
 * @throws DamageError if it is damaged or of another kind, FailedError if it is of a newer version or has an unknown
 * incompatible feature
 */
export function decodeEnvelope(
  bytes: Uint8Array,
  magic: EnvelopeMagic,
  context: EnvelopeContext,
  object: string,
): Envelope {
  const name = NAMES[magic];
  const refuse = refusalOf(`${name.replace(' ', '-')}-damaged`, { object, offsetBytes: 0 });
  checkLength(bytes, ENVELOPE_OVERHEAD_BYTES, `the ${name}`, refuse);
  const buffer = asBuffer(bytes);
  if (buffer.toString('latin1', 0, MAGIC_BYTES) !== magic) throw refuse(`this is not a ${name}`);
  const hash = hashFromNumber(buffer[10]!);
  if (hash === undefined) throw refuse(`the hash algorithm of the ${name} is unknown`, { found: `${buffer[10]}` });
  const end = payloadEnd(buffer, name, refuse);
  const digest = buffer.subarray(end);
  if (!bytesEqual(digestOf(buffer.subarray(0, end), hash, context), digest)) {
    throw refuse(`the digest of the ${name} does not match`);
  }
  const version = buffer.readUInt16LE(8);
  if (version > VERSION) throw newerVersion(`the ${name}`, version, object);
  const features = {
    incompatible: buffer.readBigUInt64LE(16),
    readOnlyCompatible: buffer.readBigUInt64LE(24),
    compatible: buffer.readBigUInt64LE(32),
  };
  checkFeatures(features, object, { forWriting: false });
  if (version !== VERSION || buffer[11] !== 0) throw refuse(`the ${name} is not laid out as its version says`);
  return { payload: buffer.subarray(ENVELOPE_HEADER_BYTES, end), hash, features, digest };
}

function payloadEnd(buffer: Buffer, name: string, refuse: Refusal): number {
  const payloadBytes = buffer.readUInt32LE(12);
  if (payloadBytes > MAX_PAYLOAD_BYTES || payloadBytes + ENVELOPE_OVERHEAD_BYTES !== buffer.byteLength) {
    throw refuse(`the ${name} is not as long as it says`, {
      expected: `${payloadBytes + ENVELOPE_OVERHEAD_BYTES} bytes`,
      found: `${buffer.byteLength} bytes`,
    });
  }
  return ENVELOPE_HEADER_BYTES + payloadBytes;
}
