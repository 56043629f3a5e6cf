// SPDX-License-Identifier: MIT
// Restores disks straight out of a .vma file, without a datastore.
//
// Guarantees: every target is looked at before the first byte is written to any; files that it makes get their names only
// when the whole archive was read, found complete, and all content is durable; when it rejects, they are gone again.

import { BLOCK_BYTES, BLOCKS_PER_CLUSTER, CLUSTER_BYTES } from '../../../formats/vma/limits.js';
import { BugError, InterruptedError } from '../../base/errors.js';
import type { SinkOutput } from '../../plugin-api.js';
import { DeviceTarget, type OpenDevice } from '../device-target.js';
import { openOutput } from '../output-place.js';
import type { DiskAssignment, RestoredDisk } from '../restore.js';
import { type OpenTarget, openTarget } from '../restore-target.js';
import { fillCluster, presentBytes, streamBytes } from './cluster-content.js';
import { isVmstate, type VmaDevice, type VmaInput, type VmaTarget } from './vma-input.js';

export interface RestoreVmaOptions {
  readonly overwrite: boolean;
  readonly targetIsZero: boolean;
  /** Opens targets that are no paths. */
  readonly openDevice?: OpenDevice;
  readonly signal?: AbortSignal;
}

const NO_BLOCKS = new Uint8Array(0);

/** What one device becomes. */
interface Place {
  readonly device: VmaDevice;
  readonly path: string;
  /** Of a stream. */
  readonly stream?: StreamTail;
  writtenBytes: number;
  zeroBytes: number;
  write(offsetBytes: number, bytes: Uint8Array): Promise<void>;
  zeros(offsetBytes: number, lengthBytes: number): Promise<void>;
  flush(): Promise<void>;
  finish(): Promise<void>;
  abandon(): Promise<void>;
}

/** The disks that are assigned; the others are passed over. @throws DamageError where the file is not whole */
export async function restoreVma(
  input: VmaInput,
  assignments: readonly DiskAssignment[],
  options: RestoreVmaOptions,
): Promise<readonly RestoredDisk[]> {
  const places = new Map<number, Place>();
  try {
    for (const { disk, target } of assignments) {
      const device = input.header.devices.find(({ name }) => name === disk);
      if (device === undefined) throw new BugError(`the archive has no device ${disk}`);
      places.set(device.id, await openPlace(device, target, options));
    }
    await input.copyTo(new VmaToPlaces(places), options.signal);
    for (const place of places.values()) place.writtenBytes += (await place.stream?.end()) ?? 0;
    for (const place of places.values()) await place.flush();
    for (const place of places.values()) await place.finish();
  } catch (error) {
    for (const place of places.values()) await place.abandon().catch(() => undefined);
    throw options.signal?.aborted === true ? new InterruptedError() : error;
  }
  return [...places.values()].map(({ device, path, stream, writtenBytes, zeroBytes }) => {
    const sizeBytes = stream === undefined ? device.sizeBytes : writtenBytes;
    return { name: device.name, target: path, sizeBytes, writtenBytes, zeroBytes };
  });
}

async function openPlace(device: VmaDevice, path: string, options: RestoreVmaOptions): Promise<Place> {
  const counts = { device, path, writtenBytes: 0, zeroBytes: 0 };
  if (isVmstate(device)) {
    const output = await openOutput({ kind: 'file', path, overwrite: options.overwrite });
    return { ...counts, stream: new StreamTail(output, device.sizeBytes), ...asStream(output) };
  }
  const opened = await options.openDevice?.(path);
  const target =
    opened === undefined
      ? await openTarget(path, device.sizeBytes, options)
      : await DeviceTarget.open(opened, path, device.sizeBytes, options);
  return { ...counts, ...asDisk(target) };
}

type Actions = Pick<Place, 'write' | 'zeros' | 'flush' | 'finish' | 'abandon'>;

function asDisk(target: OpenTarget | DeviceTarget): Actions {
  const device = target instanceof DeviceTarget ? target.device : target;
  return {
    write: async (offsetBytes, bytes) => await device.write(offsetBytes, bytes),
    zeros: async (offsetBytes, lengthBytes) => {
      if (target.writeZeros) await device.writeZeroes(offsetBytes, lengthBytes);
    },
    flush: async () => await target.flush(),
    finish: async () => await target.finish(),
    abandon: async () => await target.abandon(),
  };
}

/** A memory state: what comes goes through its tail. */
function asStream(output: SinkOutput): Actions {
  const never = async (): Promise<void> => {
    throw new BugError('a stream is written through its tail');
  };
  return {
    ...{ write: never, zeros: never, flush: async () => {} },
    finish: async () => await output.finish(),
    abandon: async () => await output.abort(),
  };
}

/** Clusters of a stream in their order. The last one is kept back, since its length is known only at the end. */
class StreamTail {
  readonly #output: SinkOutput;
  readonly #claimedBytes: number;
  readonly #last = new Uint8Array(CLUSTER_BYTES);
  #lastBytes = 0;
  #clusters = 0;

  constructor(output: SinkOutput, claimedBytes: number) {
    this.#output = output;
    this.#claimedBytes = claimedBytes;
  }

  async cluster(mask: number, blocks: Uint8Array): Promise<void> {
    if (this.#clusters > 0) await this.#output.write(this.#last);
    fillCluster(this.#last, mask, blocks);
    this.#lastBytes = presentBytes(mask);
    this.#clusters++;
  }

  /** @returns the length of it all */
  async end(): Promise<number> {
    const last = this.#clusters === 0 ? undefined : this.#last;
    const clusters = this.#clusters;
    const sizeBytes = streamBytes({ clusters, claimedBytes: this.#claimedBytes, last, lastBytes: this.#lastBytes });
    if (last !== undefined) await this.#output.write(last.subarray(0, sizeBytes - (clusters - 1) * CLUSTER_BYTES));
    return sizeBytes;
  }
}

/** Blocks that lie side by side in the file are written together. */
class VmaToPlaces implements VmaTarget {
  readonly #places: ReadonlyMap<number, Place>;
  #pending: { readonly place: Place; readonly offsetBytes: number; bytes: Uint8Array } | undefined;

  constructor(places: ReadonlyMap<number, Place>) {
    this.#places = places;
  }

  async data(id: number, cluster: number, mask: number, blocks: Uint8Array): Promise<void> {
    const place = this.#places.get(id);
    if (place === undefined) return;
    if (place.stream !== undefined) return await place.stream.cluster(mask, blocks);
    let taken = 0;
    for (let block = 0; block < BLOCKS_PER_CLUSTER; ) {
      const isThere = ((mask >> block) & 1) === 1;
      const from = block;
      while (block < BLOCKS_PER_CLUSTER && (((mask >> block) & 1) === 1) === isThere) block++;
      const offsetBytes = cluster * CLUSTER_BYTES + from * BLOCK_BYTES;
      const lengthBytes = inside(place, offsetBytes, (block - from) * BLOCK_BYTES);
      if (lengthBytes > 0 && isThere)
        await this.#write(place, offsetBytes, blocks.subarray(taken, taken + lengthBytes));
      else if (lengthBytes > 0) await this.#zero(place, offsetBytes, lengthBytes);
      if (isThere) taken += (block - from) * BLOCK_BYTES;
    }
  }

  async zeros(id: number, first: number, count: number): Promise<void> {
    const place = this.#places.get(id);
    if (place === undefined) return;
    for (let i = 0; place.stream !== undefined && i < count; i++) await place.stream.cluster(0, NO_BLOCKS);
    if (place.stream !== undefined) return;
    const offsetBytes = first * CLUSTER_BYTES;
    await this.#zero(place, offsetBytes, inside(place, offsetBytes, count * CLUSTER_BYTES));
  }

  async #write(place: Place, offsetBytes: number, bytes: Uint8Array): Promise<void> {
    place.writtenBytes += bytes.byteLength;
    const last = this.#pending;
    if (
      last?.place === place &&
      last.offsetBytes + last.bytes.byteLength === offsetBytes &&
      areNeighbours(last.bytes, bytes)
    ) {
      last.bytes = new Uint8Array(bytes.buffer, last.bytes.byteOffset, last.bytes.byteLength + bytes.byteLength);
      return;
    }
    await this.settle();
    this.#pending = { place, offsetBytes, bytes };
  }

  async #zero(place: Place, offsetBytes: number, lengthBytes: number): Promise<void> {
    await this.settle();
    place.zeroBytes += lengthBytes;
    await place.zeros(offsetBytes, lengthBytes);
  }

  async settle(): Promise<void> {
    const pending = this.#pending;
    this.#pending = undefined;
    if (pending !== undefined) await pending.place.write(pending.offsetBytes, pending.bytes);
  }
}

function areNeighbours(a: Uint8Array, b: Uint8Array): boolean {
  return a.buffer === b.buffer && a.byteOffset + a.byteLength === b.byteOffset;
}

/** What lies past the end of a disk is nothing. */
function inside({ device }: Place, offsetBytes: number, lengthBytes: number): number {
  return Math.min(lengthBytes, device.sizeBytes - offsetBytes);
}
