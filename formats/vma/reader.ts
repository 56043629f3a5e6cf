// SPDX-License-Identifier: MIT
// Reads an archive as its bytes come: no input or output here, memory does not grow with the file (SPEC.md §4).

import { bytesEqual } from '../../src/base/bytes.js';
import { BugError, DamageError, FailedError, type VmarError } from '../../src/base/errors.js';
import { type ClusterProblem, Coverage, type MissingClusters } from './coverage.js';
import { countBits, decodeExtentHeader, EXTENT_MAGIC, type ExtentEntry } from './extent-header.js';
import { decodeVmaHeader, headerLength, noArchive, type VmaDevice, type VmaHeader } from './header.js';
import { HEADER_MAGIC, HEADER_START_BYTES } from './header-layout.js';
import { BLOCK_BYTES, CLUSTER_BYTES, EXTENT_HEADER_BYTES } from './limits.js';
import { PieceCursor } from './piece-cursor.js';

export type { MissingClusters } from './coverage.js';
export type { VmaConfig, VmaDevice, VmaHeader } from './header.js';

export interface VmaHandler {
  /** Called once, before any cluster. What it gets stays as it is. */
  header(header: VmaHeader): void;
  /**
   * Called for every cluster, in the order of the file, once each, all-zero ones with mask 0. Blocks that are not
   * present are zeros.
   * @param mask bit i (least significant first) says that 4 KiB block i is present; no bit is set for a block that lies
   *   past the end of its device
   * @param blocks the present blocks end to end, valid during the call only: a view of the piece just pushed where they
   *   lie whole in it, otherwise of memory that is used again. Of the last block of a device, what lies past its end
   *   means nothing
   * @param offsetBytes where the blocks lie in the file
   */
  cluster(device: number, cluster: number, mask: number, blocks: Uint8Array, offsetBytes: number): void;
}

export interface VmaSummary {
  readonly fileBytes: number;
  readonly extents: number;
  /** Listed, of all devices. */
  readonly clusters: number;
  /** Of blocks that are in the file. */
  readonly dataBytes: number;
  readonly devices: readonly (VmaDevice & { readonly clusters: number })[];
}

interface Extent {
  readonly entries: readonly ExtentEntry[];
  next: number;
}

const NO_BLOCKS = new Uint8Array(0);

/**
 * A push parser. Everything that an extent's header promises is checked before the handler sees a cluster of it: the
 * checksum, the archive it belongs to, that each cluster lies in its device and comes for the first time, and that the
 * lengths add up. What the clusters hold has no checksum in this format.
 *
 * After an error, also one that the handler throws, every further call throws the same.
 */
export class VmaReader {
  readonly #handler: VmaHandler;
  readonly #file: string;
  readonly #cursor = new PieceCursor();
  #header: VmaHeader | undefined;
  #coverage: Coverage | undefined;
  #extent: Extent | undefined;
  #failure: { readonly error: unknown } | undefined;
  #counts = { extents: 0, clusters: 0, dataBytes: 0 };

  /** @param options.file its name, for messages */
  constructor(handler: VmaHandler, options: { readonly file?: string } = {}) {
    this.#handler = handler;
    this.#file = options.file ?? 'archive';
  }

  /**
   * Feeds the next bytes, as many as there are. They are not kept.
   * @throws DamageError with the offset in the file, FailedError if the archive is of a newer version
   */
  push(bytes: Uint8Array): void {
    this.#guarded(() => {
      this.#cursor.feed(bytes);
      if (this.#header === undefined && !this.#readHeader()) return;
      this.#readExtents();
    });
  }

  /**
   * Tells that the file has ended.
   * @throws DamageError if it ends too early, or clusters of a device are missing
   */
  end(): VmaSummary {
    return this.#guarded(() => {
      this.#cursor.feed(NO_BLOCKS);
      const { header, coverage } = this.#atEnd();
      const missing = coverage.missing();
      if (missing.length > 0) throw this.#incomplete(missing);
      const devices = header.devices.map((device) => ({ ...device, clusters: coverage.seen(device.id) }));
      return { fileBytes: this.#cursor.offsetBytes, ...this.#counts, devices };
    });
  }

  /** Clusters that did not come so far, by device. */
  get missing(): readonly MissingClusters[] {
    return this.#coverage?.missing() ?? [];
  }

  #guarded<T>(step: () => T): T {
    if (this.#failure !== undefined) throw this.#failure.error;
    try {
      return step();
    } catch (error) {
      this.#failure = { error };
      throw error;
    }
  }

  /** True once the header was read. */
  #readHeader(): boolean {
    const start = this.#cursor.peek(HEADER_START_BYTES);
    if (start === undefined) return false;
    const bytes = this.#cursor.take(headerLength(start, this.#file));
    if (bytes === undefined) return false;
    this.#header = decodeVmaHeader(Uint8Array.from(bytes), this.#file);
    this.#coverage = new Coverage(this.#header);
    this.#cursor.shrink(CLUSTER_BYTES);
    this.#handler.header(this.#header);
    return true;
  }

  #readExtents(): void {
    for (;;) {
      if (this.#extent === undefined) {
        const offsetBytes = this.#cursor.offsetBytes;
        const bytes = this.#cursor.take(EXTENT_HEADER_BYTES);
        if (bytes === undefined) return;
        this.#extent = this.#openExtent(bytes, offsetBytes);
      }
      if (!this.#readClusters(this.#extent)) return;
      this.#extent = undefined;
    }
  }

  #openExtent(bytes: Uint8Array, offsetBytes: number): Extent {
    if (this.#header === undefined || this.#coverage === undefined) throw new BugError('an extent before the header');
    const entries = decodeExtentHeader(bytes, this.#header.uuid, { object: this.#file, offsetBytes });
    for (const entry of entries) {
      const problem = this.#coverage.add(entry.device, entry.cluster) ?? this.#maskProblem(entry);
      if (problem !== undefined) throw this.#refusal(problem, entry);
    }
    this.#counts.extents++;
    return { entries, next: 0 };
  }

  /** A whole cluster at the end of a device may be there in full; the real tool takes it so. */
  #maskProblem({ device, cluster, mask }: ExtentEntry): 'blocks-past-end' | undefined {
    if (mask === 0xffff || this.#coverage === undefined) return undefined;
    return (mask & ~this.#coverage.blocksInside(device, cluster)) === 0 ? undefined : 'blocks-past-end';
  }

  /** True once all clusters of the extent were handed on. */
  #readClusters(extent: Extent): boolean {
    for (; extent.next < extent.entries.length; extent.next++) {
      const entry = extent.entries[extent.next] as ExtentEntry;
      const offsetBytes = this.#cursor.offsetBytes;
      const lengthBytes = countBits(entry.mask) * BLOCK_BYTES;
      const blocks = lengthBytes === 0 ? NO_BLOCKS : this.#cursor.take(lengthBytes);
      if (blocks === undefined) return false;
      this.#counts.clusters++;
      this.#counts.dataBytes += lengthBytes;
      this.#handOn(entry, blocks, offsetBytes);
    }
    return true;
  }

  #handOn({ device, cluster, mask }: ExtentEntry, blocks: Uint8Array, offsetBytes: number): void {
    const inside = mask & (this.#coverage?.blocksInside(device, cluster) ?? 0);
    const kept = inside === mask ? blocks : blocks.subarray(0, countBits(inside) * BLOCK_BYTES);
    this.#handler.cluster(device, cluster, inside, kept, offsetBytes);
  }

  #refusal(problem: ClusterProblem | 'blocks-past-end', entry: ExtentEntry): VmarError {
    const facts = { object: this.#file, offsetBytes: entry.offsetBytes };
    const name = this.#coverage?.device(entry.device)?.name ?? '';
    const refuse = (what: string) => new DamageError('vma-cluster', what, facts);
    switch (problem) {
      case 'unknown-device':
        return refuse(`a cluster is of device ${entry.device}, which the header does not name`);
      case 'past-end':
        return refuse(`cluster ${entry.cluster} lies past the end of device ${name}`);
      case 'blocks-past-end':
        return refuse(`cluster ${entry.cluster} holds blocks past the end of device ${name}`);
      case 'twice':
        return refuse(`cluster ${entry.cluster} of device ${name} is there twice`);
      case 'out-of-order':
        return refuse(`cluster ${entry.cluster} of ${name} is not in its turn`);
      case 'over-budget':
        return new FailedError(
          'vma-scattered',
          'the clusters of the archive lie too far scattered to keep count',
          facts,
        );
    }
  }

  /** Refuses an end inside of a header or an extent. */
  #atEnd(): { header: VmaHeader; coverage: Coverage } {
    const rest = this.#cursor.rest();
    const header = this.#header;
    const coverage = this.#coverage;
    if (header === undefined || coverage === undefined) {
      const isBegun = bytesEqual(rest.subarray(0, 4), HEADER_MAGIC.subarray(0, Math.min(4, rest.byteLength)));
      throw isBegun ? this.#cut('inside of its header') : noArchive(this.#file);
    }
    if (this.#extent !== undefined) throw this.#cut('inside of an extent');
    if (rest.byteLength > 0) {
      const isBegun = bytesEqual(rest.subarray(0, 4), EXTENT_MAGIC.subarray(0, Math.min(4, rest.byteLength)));
      if (isBegun) throw this.#cut('inside of an extent');
      throw new DamageError('vma-extent', 'after the last extent there are bytes that belong to none', {
        object: this.#file,
        offsetBytes: this.#cursor.offsetBytes,
        found: `${rest.byteLength} bytes`,
      });
    }
    return { header, coverage };
  }

  #cut(where: string): DamageError {
    return new DamageError('vma-cut', `the archive ends ${where}`, {
      object: this.#file,
      offsetBytes: this.#cursor.endBytes,
      advice: 'Fetch the file again: it is not whole.',
    });
  }

  #incomplete(missing: readonly MissingClusters[]): DamageError {
    const each = missing.map(({ device, first, count, total }) => {
      return `device ${device.name}: ${count} of ${total} clusters, the first at ${first * CLUSTER_BYTES}`;
    });
    return new DamageError('vma-incomplete', `the archive ends and clusters are missing: ${each.join('; ')}`, {
      object: this.#file,
      offsetBytes: this.#cursor.endBytes,
      advice: 'Fetch the file again: it is not whole.',
    });
  }
}
