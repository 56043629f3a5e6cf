// SPDX-License-Identifier: MIT
// Contents of disks for tests: data that compresses and data that does not, zeros and repetitions.

import { seededRandom } from '../base/random.js';

export function randomDisk(seed: number, sizeBytes: number, clusterSizeBytes = 65536): Uint8Array {
  const random = seededRandom(seed);
  const content = new Uint8Array(sizeBytes);
  for (let at = 0; at < sizeBytes; at += clusterSizeBytes) {
    const piece = Buffer.from(content.buffer, at, Math.min(clusterSizeBytes, sizeBytes - at));
    const what = random.integer(0, 5);
    if (what === 0) at += random.integer(0, 20) * clusterSizeBytes;
    else if (what === 1) piece.set(random.bytes(piece.byteLength));
    else if (what === 2) piece.fill(random.integer(1, 255));
    else if (what === 3) piece.fill(`text ${random.integer(0, 20)} of ${random.integer(0, 1 << 30)} `);
    else if (what === 4 && at > 0 && piece.byteLength === clusterSizeBytes)
      piece.set(content.subarray(0, clusterSizeBytes));
    else piece.set(random.bytes(Math.min(1000, piece.byteLength)), 0);
  }
  return content;
}
