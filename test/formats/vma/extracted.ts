// SPDX-License-Identifier: MIT
// An archive read into memory, as a user of the reader would.

import { type VmaHeader, VmaReader, type VmaSummary } from '#vmar/formats/vma/reader.js';

const BLOCK = 4096;
const CLUSTER = 65536;

export interface Extracted {
  readonly header: VmaHeader;
  /** By device id. A stream (`vmstate`) is as long as its clusters. */
  readonly contents: ReadonlyMap<number, Uint8Array>;
  readonly summary: VmaSummary;
  /** Every call of the handler: "device cluster mask offset". */
  readonly calls: readonly string[];
}

/** Feeds the bytes in pieces whose lengths `pieceBytes` gives. */
export function extract(bytes: Uint8Array, pieceBytes: () => number = () => 1 << 20): Extracted {
  let header: VmaHeader | undefined;
  const contents = new Map<number, Uint8Array>();
  const calls: string[] = [];
  const reader = new VmaReader(
    {
      header(read) {
        if (header !== undefined) throw new Error('two headers');
        header = read;
        for (const { id, name, sizeBytes } of read.devices) {
          contents.set(id, new Uint8Array(name === 'vmstate' ? 0 : sizeBytes));
        }
      },
      cluster(device, cluster, mask, blocks, offsetBytes) {
        calls.push(`${device} ${cluster} ${mask.toString(16)} ${offsetBytes}`);
        const isStream = header?.devices.find(({ id }) => id === device)?.name === 'vmstate';
        let content = contents.get(device)!;
        if (isStream) {
          content = Uint8Array.from({ length: (cluster + 1) * CLUSTER }, (_, at) => content[at] ?? 0);
          contents.set(device, content);
        }
        putBlocks(content, cluster, mask, blocks);
      },
    },
    { file: 'x.vma' },
  );
  for (let at = 0; at < bytes.byteLength; ) {
    const length = pieceBytes();
    // A copy that is spoilt afterwards: nobody may keep it.
    const piece = Uint8Array.from(bytes.subarray(at, at + length));
    reader.push(piece);
    piece.fill(0xdb);
    at += length;
  }
  const summary = reader.end();
  return { header: header!, contents, summary, calls };
}

function putBlocks(content: Uint8Array, cluster: number, mask: number, blocks: Uint8Array): void {
  let from = 0;
  for (let block = 0; block < 16; block++) {
    if ((mask & (1 << block)) === 0) continue;
    const at = cluster * CLUSTER + block * BLOCK;
    if (at >= content.byteLength) throw new Error('a block past the end');
    const bytes = blocks.subarray(from, from + Math.min(BLOCK, content.byteLength - at));
    content.set(bytes, at);
    from += BLOCK;
  }
  if (from !== blocks.byteLength) throw new Error(`${blocks.byteLength} bytes where ${from} belong`);
}
