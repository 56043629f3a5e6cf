// SPDX-License-Identifier: MIT
// Writes an archive that `vma verify`, `vma list` and `vma extract` accept, as clusters come (SPEC.md §4).

import { isAllZero } from '../../src/base/bytes.js';
import { BugError } from '../../src/base/errors.js';
import { required } from '../vmar/fields.js';
import { Coverage } from './coverage.js';
import { ExtentHeaderDraft } from './extent-header.js';
import { isVmstate, type VmaDevice, type VmaHeader } from './header.js';
import { encodeVmaHeader } from './header-encoder.js';
import {
  BLOCK_BYTES,
  BLOCKS_PER_CLUSTER,
  CLUSTER_BYTES,
  EXTENT_HEADER_BYTES,
  MAX_SEEN_BYTES,
  WRITTEN_CLUSTERS_PER_EXTENT,
} from './limits.js';

const EXTENT_BYTES = EXTENT_HEADER_BYTES + WRITTEN_CLUSTERS_PER_EXTENT * CLUSTER_BYTES;
/** Extents that were written out and may be filled again. */
const MAX_SPARE = 4;

/**
 * Gives back what is to be written, in this order: `header()` first, then what each `cluster()` gives, then `end()`.
 * One extent, at most 3.7 MiB, is under way at any time.
 *
 * Each cluster of each disk must come exactly once, in any order, disks interleaved or not; all-zero clusters too. Those
 * of `vmstate` come in order from 0, as many as there are. Blocks of zeros are left out of the file, but for those of
 * `vmstate`: the real tool leaves such gaps out of the stream that it extracts.
 */
export class VmaWriter {
  readonly #encoded: Uint8Array;
  readonly #coverage: Coverage;
  readonly #draft: ExtentHeaderDraft;
  #extent: Uint8Array | undefined;
  #filledBytes = EXTENT_HEADER_BYTES;
  readonly #spare: Uint8Array[] = [];

  /** @throws UsageError for what an archive cannot hold */
  constructor(header: VmaHeader) {
    this.#encoded = encodeVmaHeader(header);
    this.#draft = new ExtentHeaderDraft(header.uuid);
    this.#coverage = new Coverage(header, { leftBytes: MAX_SEEN_BYTES });
  }

  header(): Uint8Array {
    return this.#encoded;
  }

  /**
   * Adds a cluster: its bytes, up to the end of its disk, or 'zero'. They are copied.
   * @returns complete extents to be written; the caller may hand them back by `recycle`
   */
  cluster(device: number, cluster: number, bytes: Uint8Array | 'zero'): Uint8Array[] {
    const known = this.#device(device);
    const lengthBytes = clusterLength(known, cluster, bytes);
    this.#cover(device, cluster);
    const mask = isVmstate(known) ? this.#putWhole(bytes, lengthBytes) : this.#putBlocks(bytes);
    this.#draft.add(device, cluster, mask);
    return this.#draft.isFull ? [this.#close()] : [];
  }

  /**
   * Adds neighbouring clusters of zeros, none of `vmstate`: in one piece of 512 bytes for each 58.
   * @returns what is to be written
   */
  zeros(device: number, firstCluster: number, count: number): Uint8Array[] {
    required(!isVmstate(this.#device(device)), 'zeros of vmstate are given as clusters');
    const given: Uint8Array[] = [];
    // The extent that is under way may have blocks; those after it are headers alone.
    const headers = new Uint8Array(Math.ceil(count / WRITTEN_CLUSTERS_PER_EXTENT) * EXTENT_HEADER_BYTES);
    let headerBytes = 0;
    for (let cluster = firstCluster; cluster < firstCluster + count; cluster++) {
      this.#cover(device, cluster);
      this.#draft.add(device, cluster, 0);
      if (!this.#draft.isFull) continue;
      if (this.#extent === undefined) {
        this.#draft.finish(headers.subarray(headerBytes));
        headerBytes += EXTENT_HEADER_BYTES;
      } else given.push(this.#close());
    }
    if (headerBytes > 0) given.push(headers.subarray(0, headerBytes));
    return given;
  }

  /** @returns the last extent, if there is one */
  end(): Uint8Array[] {
    const [missing] = this.#coverage.missing();
    required(missing === undefined, `every cluster comes (cluster ${missing?.first} of ${missing?.device.name})`);
    return this.#draft.isEmpty ? [] : [this.#close()];
  }

  /** An extent that this writer gave and that is written out: its memory is used again. */
  recycle(extent: Uint8Array): void {
    if (extent.buffer.byteLength !== EXTENT_BYTES || this.#spare.length >= MAX_SPARE) return;
    this.#spare.push(new Uint8Array(extent.buffer));
  }

  #device(id: number): VmaDevice {
    const device = this.#coverage.device(id);
    if (device === undefined) throw new BugError(`not kept: device ${id} stands in the header`);
    return device;
  }

  #cover(device: number, cluster: number): void {
    const problem = this.#coverage.add(device, cluster);
    if (problem === undefined) return;
    throw new BugError(`not kept: cluster ${cluster} of device ${device} comes once, in its device (${problem})`);
  }

  /** Every block that holds bytes, zeros too; gives the mask. */
  #putWhole(bytes: Uint8Array | 'zero', lengthBytes: number): number {
    const blocks = Math.ceil(lengthBytes / BLOCK_BYTES);
    const extent = this.#room();
    const end = this.#filledBytes + blocks * BLOCK_BYTES;
    if (bytes === 'zero') extent.fill(0, this.#filledBytes, end);
    else {
      extent.set(bytes, this.#filledBytes);
      extent.fill(0, this.#filledBytes + lengthBytes, end);
    }
    this.#filledBytes = end;
    return 2 ** blocks - 1;
  }

  /** The blocks that are not all zero; gives the mask. */
  #putBlocks(bytes: Uint8Array | 'zero'): number {
    if (bytes === 'zero') return 0;
    const extent = this.#room();
    let mask = 0;
    // Runs of present blocks are copied at once.
    let runFrom = 0;
    for (let block = 0; block < BLOCKS_PER_CLUSTER; block++) {
      const at = block * BLOCK_BYTES;
      if (at >= bytes.byteLength) break;
      if (!isZeroBlock(bytes, at)) mask |= 1 << block;
      else {
        this.#putRun(extent, bytes.subarray(runFrom, at));
        runFrom = at + BLOCK_BYTES;
      }
    }
    if (runFrom < bytes.byteLength) this.#putRun(extent, bytes.subarray(runFrom));
    return mask;
  }

  #putRun(extent: Uint8Array, run: Uint8Array): void {
    extent.set(run, this.#filledBytes);
    const paddedBytes = Math.ceil(run.byteLength / BLOCK_BYTES) * BLOCK_BYTES;
    extent.fill(0, this.#filledBytes + run.byteLength, this.#filledBytes + paddedBytes);
    this.#filledBytes += paddedBytes;
  }

  #room(): Uint8Array {
    // Not zeroed: every byte that is given away is written first.
    this.#extent ??= this.#spare.pop() ?? new Uint8Array(Buffer.allocUnsafeSlow(EXTENT_BYTES).buffer);
    return this.#extent;
  }

  #close(): Uint8Array {
    // An extent of zero clusters alone is its header; it need not hold memory for blocks.
    const extent = this.#extent?.subarray(0, this.#filledBytes) ?? new Uint8Array(EXTENT_HEADER_BYTES);
    this.#draft.finish(extent);
    this.#extent = undefined;
    this.#filledBytes = EXTENT_HEADER_BYTES;
    return extent;
  }
}

/** What a cluster's bytes count; of a stream it is as many as are given. */
function clusterLength(device: VmaDevice, cluster: number, bytes: Uint8Array | 'zero'): number {
  const leftBytes = Math.min(CLUSTER_BYTES, device.sizeBytes - cluster * CLUSTER_BYTES);
  if (isVmstate(device)) {
    const lengthBytes = bytes === 'zero' ? (leftBytes > 0 ? leftBytes : CLUSTER_BYTES) : bytes.byteLength;
    required(lengthBytes >= 1 && lengthBytes <= CLUSTER_BYTES, `a cluster of ${device.name} has 1 to 65536 bytes`);
    return lengthBytes;
  }
  if (bytes !== 'zero' && bytes.byteLength !== leftBytes) {
    throw new BugError(`cluster ${cluster} of ${device.name} has ${leftBytes} bytes, not ${bytes.byteLength}`);
  }
  return leftBytes;
}

/** The first byte tells of many blocks that they are not zero, for less than the comparison costs. */
function isZeroBlock(bytes: Uint8Array, at: number): boolean {
  if (bytes[at] !== 0) return false;
  return isAllZero(bytes.subarray(at, at + BLOCK_BYTES));
}
