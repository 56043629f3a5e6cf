// SPDX-License-Identifier: MIT
// What the real tool wrote is read to the byte, however it is cut into pieces.

import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import { seededRandom } from '../../base/random.js';
import { extract } from './extracted.js';
import { readSample, SAMPLE_FACTS } from './sample.js';

const SAMPLE = readSample();
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

it('is the file that its README tells of', () => {
  expect({ fileBytes: SAMPLE.byteLength, sha256: sha256(SAMPLE) }).toEqual({
    fileBytes: SAMPLE_FACTS.fileBytes,
    sha256: SAMPLE_FACTS.sha256,
  });
});

it('gives its configs and disks', () => {
  const { header, contents, summary } = extract(SAMPLE);
  const configs = header.configs.map(({ name, content }) => {
    return { name, sizeBytes: content.byteLength, sha256: sha256(content) };
  });
  expect(configs).toEqual(SAMPLE_FACTS.configs);
  const devices = header.devices.map((device) => ({ ...device, sha256: sha256(contents.get(device.id)!) }));
  expect(devices).toEqual(SAMPLE_FACTS.devices);
  expect(header.timeSeconds).toBe(1795252074);
  expect(Buffer.from(header.uuid).toString('hex')).toBe('c720ff07fcba41b4a02d2686732be9fe');
  expect(summary).toMatchObject({ fileBytes: SAMPLE_FACTS.fileBytes, clusters: 128 + 81 });
  expect(summary.devices.map(({ clusters }) => clusters)).toEqual([128, 81]);
});

it('gives the same, fed a byte at a time or in pieces of any length', () => {
  // By hash: comparing megabytes element by element takes minutes.
  const digest = (length: () => number) => {
    const { contents, calls, summary } = extract(SAMPLE, length);
    return { hashes: [...contents.values()].map(sha256), calls: calls.join('\n'), summary };
  };
  const whole = digest(() => SAMPLE.byteLength);
  const random = seededRandom(2411);
  const lengths = [() => 1, () => 511, () => 512, () => 4096, () => 65537, () => random.integer(0, 9000)];
  for (const length of lengths) expect(digest(length)).toEqual(whole);
});
