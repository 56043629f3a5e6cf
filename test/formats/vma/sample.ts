// SPDX-License-Identifier: MIT
// A file written by the real tool, and what is in it (fixtures/vma/README.md).

import { readFileSync } from 'node:fs';
import { decompress } from 'zstd-napi';

/** What the README beside the file says, to be compared with what a reader finds. */
export const SAMPLE_FACTS = {
  fileBytes: 436736,
  sha256: 'b9f6b3508611b4eae6a5c5d84bffc3383b7e05c4d2e5a0bb52352404d4670f3b',
  configs: [
    {
      name: 'qemu-server.conf',
      sizeBytes: 112,
      sha256: '61fb2d13d6a86442a435451f08a1274e7e3fc0e9c3c7f00bc5fb29ddc2bebb0b',
    },
    {
      name: 'qemu-server.fw',
      sizeBytes: 20,
      sha256: '0387acfb0fc487522a0460902e01698618787c6928095bdbfc8007d1ac8ae23d',
    },
  ],
  devices: [
    {
      id: 1,
      name: 'drive-scsi0',
      sizeBytes: 8388608,
      sha256: 'f6db2e97894ab0d795340c4b51d25e37b6f085d5b45c84d871c2a87215769d40',
    },
    {
      id: 2,
      name: 'drive-scsi1',
      sizeBytes: 5244416,
      sha256: '3e5ce632aa6ff5dd897ad65fd371eca5559563095cbe0d41c633850709e3e436',
    },
  ],
} as const;

export function readSample(): Uint8Array {
  return decompress(readFileSync(new URL('../../fixtures/vma/two-disks.vma.zst', import.meta.url)));
}
