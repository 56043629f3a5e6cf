// SPDX-License-Identifier: MIT
// Feature bits (SPEC.md §7). Version 1 knows none, so every bit that is set is refused as its class says.

import { FailedError } from '../../src/base/errors.js';

/** 64 bits each. */
export interface FeatureSet {
  readonly incompatible: bigint;
  readonly readOnlyCompatible: bigint;
  readonly compatible: bigint;
}

export const NO_FEATURES: FeatureSet = { incompatible: 0n, readOnlyCompatible: 0n, compatible: 0n };

/** By bit. */
export const INCOMPATIBLE_FEATURES: readonly string[] = ['encryption', 'compression-other', 'object-layout'];
export const READ_ONLY_COMPATIBLE_FEATURES: readonly string[] = ['parity', 'append-only'];

/** Of the bits that are set; `bit 7` where a bit has no name. */
export function featureNames(bits: bigint, names: readonly string[]): string[] {
  const found: string[] = [];
  for (let bit = 0; bits >> BigInt(bit) !== 0n; bit++) {
    if ((bits >> BigInt(bit)) & 1n) found.push(names[bit] ?? `bit ${bit}`);
  }
  return found;
}

/**
 * Passes if this program may use what has these features.
 * @throws FailedError that names the features it does not know: incompatible ones, and for writing, collecting and
 * repairing also read-only-compatible ones.
 */
export function checkFeatures(features: FeatureSet, object: string, use: { readonly forWriting: boolean }): void {
  if (features.incompatible !== 0n) {
    throw unknown('uses', featureNames(features.incompatible, INCOMPATIBLE_FEATURES), object);
  }
  if (use.forWriting && features.readOnlyCompatible !== 0n) {
    const names = featureNames(features.readOnlyCompatible, READ_ONLY_COMPATIBLE_FEATURES);
    throw unknown('can be read but not changed, since it uses', names, object);
  }
}

function unknown(verb: string, names: readonly string[], object: string): FailedError {
  const what = names.length === 1 ? 'a feature' : 'features';
  return new FailedError('unknown-feature', `it ${verb} ${what} that this vmar does not know: ${names.join(', ')}`, {
    object,
    found: names.join(', '),
    advice: 'Use the version of vmar that wrote it, or a newer one.',
  });
}

/** What was written by a later version is told from damage. */
export function newerVersion(what: string, version: number, object: string): FailedError {
  return new FailedError('newer-version', `${what} is of format version ${version}, which this vmar does not know`, {
    object,
    expected: 'version 1',
    found: `version ${version}`,
    advice: 'Use the version of vmar that wrote it, or a newer one.',
  });
}
