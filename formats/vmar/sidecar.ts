// SPDX-License-Identifier: MIT
// What may change about a backup, beside its manifest: a message in an envelope.

import { compareBytes } from '../../src/base/bytes.js';
import { UsageError } from '../../src/base/errors.js';
import { decodeEnvelope, encodeEnvelope } from './envelope.js';
import { type FeatureSet, NO_FEATURES } from './features.js';
import { type Refusal, refusalOf } from './fields.js';
import { vmar } from './generated/vmar.js';
import { DIGEST_BYTES, type HashName } from './hash.js';
import { MAX_LABELS } from './limits.js';
import { decodeMessage } from './protobuf.js';

export interface Sidecar {
  /** 32 bytes: the digest of the manifest it belongs to. */
  readonly manifestDigest: Uint8Array;
  /** By key, none of them ""; in the order of the keys' bytes where it was decoded. */
  readonly labels: ReadonlyMap<string, string>;
  readonly notes: string;
  readonly isProtected: boolean;
  /** A later backup of the guest was made and removed; no dirty bitmap can be taken to follow this one. */
  readonly isLaterRemoved?: boolean;
}

const LABELS_FIELD = 2;

/**
 * The whole file. Labels are sorted.
 * @throws UsageError for values that no sidecar may have
 */
export function encodeSidecar(sidecar: Sidecar, hash: HashName, features: FeatureSet = NO_FEATURES): Uint8Array {
  const problem = sidecarProblem(sidecar);
  if (problem !== undefined) throw new UsageError('bad-sidecar', `a backup cannot be labelled so: ${problem}`);
  const { manifestDigest, notes, isProtected, isLaterRemoved = false } = sidecar;
  const labels = [...sidecar.labels].map(([key, value]) => ({ key, value })).sort((a, b) => compareKeys(a.key, b.key));
  const payload = vmar.v1.Sidecar.encode({ manifestDigest, labels, notes, isProtected, isLaterRemoved }).finish();
  return encodeEnvelope('VMARSIDE', hash, features, payload, 'manifest');
}

/**
 * Checks and reads the whole file.
 * @throws DamageError, or FailedError if it is of a newer version or has an unknown incompatible feature
 */
export function decodeSidecar(bytes: Uint8Array, object: string): Sidecar {
  const { payload } = decodeEnvelope(bytes, 'VMARSIDE', 'manifest', object);
  const refuse = refusalOf('sidecar-damaged', { object, offsetBytes: 0 });
  const limits = { [LABELS_FIELD]: MAX_LABELS };
  const message = decodeMessage((reader) => vmar.v1.Sidecar.decode(reader), payload, limits, refuse);
  const { manifestDigest, notes, isProtected, isLaterRemoved } = message;
  const sidecar = {
    ...{ manifestDigest, labels: readLabels(message, refuse), notes, isProtected },
    ...(isLaterRemoved ? { isLaterRemoved } : {}),
  };
  const problem = sidecarProblem(sidecar);
  if (problem !== undefined) throw refuse(`the sidecar is wrong: ${problem}`);
  return sidecar;
}

function readLabels(message: vmar.v1.Sidecar, refuse: Refusal): ReadonlyMap<string, string> {
  const labels = new Map<string, string>();
  let last = '';
  for (const label of message.labels) {
    const key = label.key ?? '';
    if (compareKeys(last, key) >= 0) throw refuse('the labels of the sidecar are not sorted');
    labels.set(key, label.value ?? '');
    last = key;
  }
  return labels;
}

/** By the bytes of their UTF-8. */
function compareKeys(a: string, b: string): number {
  return compareBytes(Buffer.from(a), Buffer.from(b));
}

function sidecarProblem(sidecar: Sidecar): string | undefined {
  if (sidecar.manifestDigest.byteLength !== DIGEST_BYTES) return 'the digest of its manifest is not 32 bytes';
  if (sidecar.labels.size > MAX_LABELS) return `${sidecar.labels.size} labels`;
  return sidecar.labels.has('') ? 'a label without a key' : undefined;
}
