// SPDX-License-Identifier: MIT
// Writes the header of an archive, byte for byte as the real tool does (SPEC.md §2).

import { divideUp, isSize } from '../../src/base/checked.js';
import { UsageError } from '../../src/base/errors.js';
import { putBytes, required } from '../vmar/fields.js';
import { BlobBuffer } from './blobs.js';
import { isBaseName, md5Without } from './fields.js';
import { isVmstate, type VmaDevice, type VmaHeader } from './header.js';
import { HEADER_AT, HEADER_MAGIC, TRUE_SIZE_MARK, VERSION } from './header-layout.js';
import {
  FIXED_HEADER_BYTES,
  HEADER_ALIGNMENT_BYTES,
  MAX_BLOB_BYTES,
  MAX_CONFIGS,
  MAX_DEVICE_BYTES,
  MAX_DEVICE_ID,
  MAX_WRITTEN_HEADER_BYTES,
  SECTOR_BYTES,
} from './limits.js';

const UUID_BYTES = 16;

/**
 * Configs are stored under their base names.
 * @throws UsageError for what an archive cannot hold: more than 256 configs, one over 64 KiB, a header over 512 KiB, an
 *   empty disk, names that are no plain file names or come twice
 */
export function encodeVmaHeader(header: VmaHeader): Uint8Array {
  checkDevices(header.devices);
  if (header.configs.length > MAX_CONFIGS) {
    throw cannotHold(`more than ${MAX_CONFIGS} configs`, undefined, `${header.configs.length}`);
  }
  const blobs = new BlobBuffer();
  const configs = header.configs.map(({ name, content }) => {
    const base = name.slice(name.lastIndexOf('/') + 1);
    if (!isBaseName(base)) throw cannotHold('a config of such a name', name);
    if (content.byteLength > MAX_BLOB_BYTES) {
      throw cannotHold(`a config over ${MAX_BLOB_BYTES} bytes`, name, `${content.byteLength} bytes`);
    }
    return { name: blobs.add(withNul(base)), content: blobs.add(content) };
  });
  const devices = header.devices.map((device) => ({ device, name: blobs.add(withNul(device.name)) }));
  const bytes = layOut(header, blobs);
  for (const [index, { name, content }] of configs.entries()) {
    bytes.writeUInt32BE(name, HEADER_AT.configNames + 4 * index);
    bytes.writeUInt32BE(content, HEADER_AT.configData + 4 * index);
  }
  for (const { device, name } of devices) putDevice(bytes, device, name);
  bytes.set(md5Without(bytes, HEADER_AT.md5), HEADER_AT.md5);
  return bytes;
}

/** All but what points into the blob buffer, and the checksum. */
function layOut(header: VmaHeader, blobs: BlobBuffer): Buffer {
  const lengthBytes = FIXED_HEADER_BYTES + divideUp(blobs.lengthBytes, HEADER_ALIGNMENT_BYTES) * HEADER_ALIGNMENT_BYTES;
  if (lengthBytes > MAX_WRITTEN_HEADER_BYTES) {
    throw cannotHold(`configs and names that make its header longer than ${MAX_WRITTEN_HEADER_BYTES} bytes`);
  }
  required(Number.isSafeInteger(header.timeSeconds), 'the time of an archive is in whole seconds');
  const bytes = Buffer.alloc(lengthBytes);
  bytes.set(HEADER_MAGIC, 0);
  bytes.writeUInt32BE(VERSION, HEADER_AT.version);
  putBytes(bytes, HEADER_AT.uuid, header.uuid, UUID_BYTES);
  bytes.writeBigInt64BE(BigInt(header.timeSeconds), HEADER_AT.time);
  bytes.writeUInt32BE(FIXED_HEADER_BYTES, HEADER_AT.blobOffset);
  bytes.writeUInt32BE(blobs.lengthBytes, HEADER_AT.blobSize);
  bytes.writeUInt32BE(lengthBytes, HEADER_AT.headerSize);
  blobs.copyTo(bytes, FIXED_HEADER_BYTES);
  return bytes;
}

/**
 * The real tool counts in sectors: of a length that is no multiple of 512 it would lose the end. So such a length is
 * rounded up, and the true one is noted where the real tool does not look. Of a stream it does not use the length.
 */
function putDevice(bytes: Buffer, device: VmaDevice, name: number): void {
  const { id, sizeBytes } = device;
  const at = HEADER_AT.devices + HEADER_AT.deviceBytes * id;
  const roundedBytes = isVmstate(device) ? sizeBytes : divideUp(sizeBytes, SECTOR_BYTES) * SECTOR_BYTES;
  bytes.writeUInt32BE(name, at);
  bytes.writeBigUInt64BE(BigInt(roundedBytes), at + HEADER_AT.deviceSize);
  if (roundedBytes === sizeBytes) return;
  bytes.set(TRUE_SIZE_MARK, at + HEADER_AT.deviceMark);
  bytes.writeBigUInt64BE(BigInt(sizeBytes), at + HEADER_AT.deviceMark + TRUE_SIZE_MARK.byteLength);
}

function checkDevices(devices: readonly VmaDevice[]): void {
  const ids = new Set<number>();
  const names = new Set<string>();
  for (const device of devices) {
    const { id, name, sizeBytes } = device;
    if (!Number.isInteger(id) || id < 1 || id > MAX_DEVICE_ID) {
      throw cannotHold(`more than ${MAX_DEVICE_ID} disks, numbered from 1`, name, `${id}`);
    }
    if (!isBaseName(name)) throw cannotHold('a disk of such a name', name);
    if (ids.has(id) || names.has(name)) throw cannotHold('two disks of one name or number', name);
    if (sizeBytes === 0) throw cannotHold('a disk of no length', name);
    if (!isSize(sizeBytes) || sizeBytes > MAX_DEVICE_BYTES) {
      throw cannotHold(`a ${isVmstate(device) ? 'state' : 'disk'} of this length`, name, `${sizeBytes} bytes`);
    }
    ids.add(id);
    names.add(name);
  }
}

function withNul(name: string): Uint8Array {
  return Buffer.from(`${name}\0`);
}

/** @param object the config or disk it is about */
function cannotHold(what: string, object?: string, found?: string): UsageError {
  return new UsageError('vma-cannot-hold', `a .vma archive cannot hold ${what}`, {
    ...(object === undefined ? {} : { object }),
    ...(found === undefined ? {} : { found }),
    advice: 'Export it as .vmar or .tar instead.',
  });
}
