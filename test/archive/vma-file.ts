// SPDX-License-Identifier: MIT
// Builds .vma files for tests, clusters in any order.

import { VmaWriter } from '#vmar/formats/vma/writer.js';
import type { Random } from '../base/random.js';
import type { MemoryDisk } from './world.js';

const CLUSTER = 65536;

export interface VmaFileOptions {
  readonly timeSeconds?: number;
  readonly uuid?: Uint8Array;
  readonly configs?: readonly { name: string; content: Uint8Array }[];
  /** Shuffles the clusters of all disks; those of vmstate stay in order. */
  readonly shuffle?: Random;
}

export function vmaFile(disks: readonly MemoryDisk[], options: VmaFileOptions = {}): Buffer {
  const writer = new VmaWriter({
    uuid: options.uuid ?? Uint8Array.from({ length: 16 }, (_, i) => i + 1),
    timeSeconds: options.timeSeconds ?? 1_763_600_000,
    configs: options.configs ?? [],
    devices: disks.map(({ name, content }, at) => ({ id: at + 1, name, sizeBytes: content.byteLength })),
  });
  const clusters = disks.flatMap(({ content }, at) =>
    Array.from({ length: Math.ceil(content.byteLength / CLUSTER) }, (_, cluster) => ({ at, cluster })),
  );
  if (options.shuffle !== undefined) shuffle(clusters, options.shuffle);
  const next = disks.map(() => 0);
  const parts: Uint8Array[] = [writer.header()];
  for (const { at, cluster } of clusters) {
    const { name, content } = disks[at]!;
    const which = name === 'vmstate' ? next[at]!++ : cluster;
    const bytes = content.subarray(which * CLUSTER, (which + 1) * CLUSTER);
    parts.push(...writer.cluster(at + 1, which, bytes).map((extent) => Uint8Array.from(extent)));
  }
  parts.push(...writer.end());
  return Buffer.concat(parts);
}

function shuffle<T>(list: T[], random: Random): void {
  for (let i = list.length - 1; i > 0; i--) {
    const j = random.integer(0, i);
    [list[i], list[j]] = [list[j]!, list[i]!];
  }
}
