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
import { isVmstate, type VmaDevice, type VmaInput, type VmaTarget } from './vma-input.js';

export interface RestoreVmaOptions {
  readonly overwrite: boolean;
  readonly targetIsZero: boolean;
  /** Opens targets that are no paths. */
  readonly openDevice?: OpenDevice;
  readonly signal?: AbortSignal;
}

/** What one device becomes. */
interface Place {
  readonly device: VmaDevice;
  readonly path: string;
  readonly kind: 'disk' | 'stream';
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
    for (const place of places.values()) await place.flush();
    for (const place of places.values()) await place.finish();
  } catch (error) {
    for (const place of places.values()) await place.abandon().catch(() => undefined);
    throw options.signal?.aborted === true ? new InterruptedError() : error;
  }
  return [...places.values()].map(({ device, path, kind, writtenBytes, zeroBytes }) => {
    const sizeBytes = kind === 'disk' ? device.sizeBytes : writtenBytes + zeroBytes;
    return { name: device.name, target: path, sizeBytes, writtenBytes, zeroBytes };
  });
}

async function openPlace(device: VmaDevice, path: string, options: RestoreVmaOptions): Promise<Place> {
  const counts = { device, path, writtenBytes: 0, zeroBytes: 0 };
  if (isVmstate(device)) {
    return {
      ...counts,
      kind: 'stream',
      ...asStream(await openOutput({ kind: 'file', path, overwrite: options.overwrite })),
    };
  }
  const opened = await options.openDevice?.(path);
  const target =
    opened === undefined
      ? await openTarget(path, device.sizeBytes, options)
      : await DeviceTarget.open(opened, path, device.sizeBytes, options);
  return { ...counts, kind: 'disk', ...asDisk(target) };
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

const ZEROS = new Uint8Array(CLUSTER_BYTES);

/** A memory state comes in order, and its length is not known before its end. */
function asStream(output: SinkOutput): Actions {
  return {
    write: async (_offsetBytes, bytes) => await output.write(bytes),
    zeros: async (_offsetBytes, lengthBytes) => {
      for (let done = 0; done < lengthBytes; done += ZEROS.byteLength) {
        await output.write(ZEROS.subarray(0, lengthBytes - done));
      }
    },
    flush: async () => {},
    finish: async () => await output.finish(),
    abandon: async () => await output.abort(),
  };
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
function inside({ kind, device }: Place, offsetBytes: number, lengthBytes: number): number {
  return kind === 'stream' ? lengthBytes : Math.min(lengthBytes, device.sizeBytes - offsetBytes);
}
