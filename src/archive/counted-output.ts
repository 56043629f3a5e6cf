// SPDX-License-Identifier: MIT
// Counts what frames take on disk, while they go by.

import type { FrameOutput } from './frame-builder.js';

/** Shares each frame's stored bytes out among the disks, by the raw bytes of their chunks. */
export function countedOutput(
  output: FrameOutput,
  diskOf: (index: number) => { storedBytes: number } | undefined,
): FrameOutput {
  return {
    add: async (part, release) => {
      const { storedBytes, rawBytes } = part.entry;
      for (const chunk of part.chunks) {
        const disk = diskOf(chunk.disk);
        if (disk !== undefined) disk.storedBytes += (storedBytes * chunk.lengthBytes) / rawBytes;
      }
      await output.add(part, release);
    },
  };
}
