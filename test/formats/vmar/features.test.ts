// SPDX-License-Identifier: MIT

import { describe, expect, it } from 'vitest';
import { checkFeatures, featureNames, INCOMPATIBLE_FEATURES, NO_FEATURES } from '#vmar/formats/vmar/features.js';
import { FailedError } from '#vmar/src/base/errors.js';
import { refusalBy } from './damage.js';

const READING = { forWriting: false };
const WRITING = { forWriting: true };

describe('features', () => {
  it('are no obstacle where there are none', () => {
    checkFeatures(NO_FEATURES, 'x', READING);
    checkFeatures(NO_FEATURES, 'x', WRITING);
  });

  it('that are incompatible are refused by name, for reading and writing', () => {
    for (const use of [READING, WRITING]) {
      const error = refusalBy(() => checkFeatures({ ...NO_FEATURES, incompatible: 0b101n }, '/store', use));
      expect(error).toBeInstanceOf(FailedError);
      expect(error).toMatchObject({ code: 'unknown-feature', object: '/store', found: 'encryption, object-layout' });
      expect(error.message).toContain('encryption, object-layout');
    }
  });

  it('that are read-only-compatible are refused by name, for writing alone', () => {
    const features = { ...NO_FEATURES, readOnlyCompatible: (1n << 63n) | 1n };
    checkFeatures(features, '/store', READING);
    const error = refusalBy(() => checkFeatures(features, '/store', WRITING));
    expect(error).toMatchObject({ code: 'unknown-feature', found: 'parity, bit 63' });
  });

  it('that are compatible are ignored', () => {
    checkFeatures({ ...NO_FEATURES, compatible: 2n ** 64n - 1n }, 'x', WRITING);
  });

  it('have the names of the specification', () => {
    expect(featureNames(0b1111n, INCOMPATIBLE_FEATURES)).toEqual([
      'encryption',
      'compression-other',
      'object-layout',
      'bit 3',
    ]);
  });
});
