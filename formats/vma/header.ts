// SPDX-License-Identifier: MIT
// What the header of an archive says, and its decoder (SPEC.md §2).

import { asBuffer, bytesEqual } from '../../src/base/bytes.js';
import { newerVersion } from '../vmar/features.js';
import { type Refusal, refusalOf } from '../vmar/fields.js';
import { findBlobs } from './blobs.js';
import { getSize, isBaseName, MD5_BYTES, md5Without } from './fields.js';
import { HEADER_AT, HEADER_MAGIC, TRUE_SIZE_MARK, VERSION } from './header-layout.js';
import {
  FIXED_HEADER_BYTES,
  MAX_CONFIGS,
  MAX_DEVICE_BYTES,
  MAX_DEVICE_ID,
  MAX_HEADER_BYTES,
  SECTOR_BYTES,
  VMSTATE_NAME,
} from './limits.js';

export interface VmaConfig {
  /** A base name: no `/`, no control characters. Two configs may have one name. */
  readonly name: string;
  readonly content: Uint8Array;
}

export interface VmaDevice {
  /** 1 … 254 */
  readonly id: number;
  /** No `/`, no control characters, no two of one name. `vmstate` is the memory of the guest, a stream. */
  readonly name: string;
  /** The true length; never 0. Of `vmstate` only what the writer guessed. */
  readonly sizeBytes: number;
}

export interface VmaHeader {
  /** 16 bytes */
  readonly uuid: Uint8Array;
  /** As it stands there: may be negative, or past the year 10000. */
  readonly timeSeconds: number;
  readonly configs: readonly VmaConfig[];
  /** By ascending id when read. */
  readonly devices: readonly VmaDevice[];
}

export function isVmstate(device: VmaDevice): boolean {
  return device.name === VMSTATE_NAME;
}

/**
 * The length that a header claims, from its first 60 bytes.
 * @throws DamageError if these do not begin an archive
 */
export function headerLength(first60: Uint8Array, file: string): number {
  if (!bytesEqual(first60.subarray(0, 4), HEADER_MAGIC)) throw noArchive(file);
  const lengthBytes = asBuffer(first60).readUInt32BE(HEADER_AT.headerSize);
  if (lengthBytes > FIXED_HEADER_BYTES && lengthBytes <= MAX_HEADER_BYTES) return lengthBytes;
  throw refusalOf('vma-header', { object: file, offsetBytes: HEADER_AT.headerSize })(
    'the header of the archive has an impossible length',
    { expected: `${FIXED_HEADER_BYTES + 1} to ${MAX_HEADER_BYTES} bytes`, found: `${lengthBytes} bytes` },
  );
}

export function noArchive(file: string) {
  return refusalOf('no-vma', { object: file, offsetBytes: 0 })('this is not a .vma archive');
}

/**
 * Decodes a whole header. What it gives refers to `header`, which must not change.
 * @throws DamageError with the offset of the field, FailedError if it is of a newer version
 */
export function decodeVmaHeader(header: Uint8Array, file: string): VmaHeader {
  const bytes = asBuffer(header).subarray(0, headerLength(header, file));
  const refuseAt = (offsetBytes: number) => refusalOf('vma-header', { object: file, offsetBytes });
  if (bytes.byteLength > header.byteLength) throw refuseAt(0)('the header of the archive is cut off');
  const version = bytes.readUInt32BE(HEADER_AT.version);
  const md5 = bytes.subarray(HEADER_AT.md5, HEADER_AT.md5 + MD5_BYTES);
  if (!bytesEqual(md5Without(bytes, HEADER_AT.md5), md5)) {
    const facts = version === VERSION ? {} : { found: `version ${version}` };
    throw refuseAt(0)('the checksum of the header of the archive does not match', facts);
  }
  if (version > VERSION) throw newerVersion('the archive', version, file);
  if (version !== VERSION) throw refuseAt(HEADER_AT.version)(`the archive is of format version ${version}`);
  const uuid = bytes.subarray(HEADER_AT.uuid, HEADER_AT.uuid + 16);
  const timeSeconds = Number(bytes.readBigInt64BE(HEADER_AT.time));
  const blobs = readBlobs(bytes, refuseAt);
  return {
    uuid,
    timeSeconds,
    configs: readConfigs(bytes, blobs, refuseAt),
    devices: readDevices(bytes, blobs, refuseAt),
  };
}

type RefusalAt = (offsetBytes: number) => Refusal;
type Blobs = ReadonlyMap<number, Uint8Array>;

function readBlobs(bytes: Buffer, refuseAt: RefusalAt): Blobs {
  const from = bytes.readUInt32BE(HEADER_AT.blobOffset);
  const lengthBytes = bytes.readUInt32BE(HEADER_AT.blobSize);
  if (from < FIXED_HEADER_BYTES || from + lengthBytes > bytes.byteLength) {
    throw refuseAt(HEADER_AT.blobOffset)('the blob buffer does not lie in the header', {
      found: `${lengthBytes} bytes at ${from}`,
    });
  }
  const pointers = new Set<number>();
  for (let index = 0; index < MAX_CONFIGS; index++) {
    pointers.add(bytes.readUInt32BE(HEADER_AT.configNames + 4 * index));
    pointers.add(bytes.readUInt32BE(HEADER_AT.configData + 4 * index));
    pointers.add(bytes.readUInt32BE(HEADER_AT.devices + HEADER_AT.deviceBytes * index));
  }
  return findBlobs(bytes.subarray(from, from + lengthBytes), pointers);
}

/** A slot counts when both its pointers are set. */
function readConfigs(bytes: Buffer, blobs: Blobs, refuseAt: RefusalAt): VmaConfig[] {
  const configs: VmaConfig[] = [];
  for (let index = 0; index < MAX_CONFIGS; index++) {
    const nameAt = HEADER_AT.configNames + 4 * index;
    const dataAt = HEADER_AT.configData + 4 * index;
    const [namePointer, dataPointer] = [bytes.readUInt32BE(nameAt), bytes.readUInt32BE(dataAt)];
    if (namePointer === 0 || dataPointer === 0) continue;
    const nameBytes = terminated(blobs.get(namePointer));
    if (nameBytes === undefined) throw refuseAt(nameAt)(`the name of config ${index} is not where the header says`);
    const content = blobs.get(dataPointer);
    if (content === undefined) throw refuseAt(dataAt)(`the content of config ${index} is not where the header says`);
    configs.push({ name: checkedName(nameBytes, `config ${index}`, refuseAt(nameAt)), content });
  }
  return configs;
}

/** A device is there when its size is not 0 and its name is a string. */
function readDevices(bytes: Buffer, blobs: Blobs, refuseAt: RefusalAt): VmaDevice[] {
  const devices: VmaDevice[] = [];
  const names = new Set<string>();
  for (let id = 1; id <= MAX_DEVICE_ID + 1; id++) {
    const at = HEADER_AT.devices + HEADER_AT.deviceBytes * id;
    const refuse = refuseAt(at);
    const nameBytes = terminated(blobs.get(bytes.readUInt32BE(at)));
    const sizeBytes = getSize(bytes, at + HEADER_AT.deviceSize);
    if (sizeBytes === 0 || nameBytes === undefined) continue;
    const name = checkedName(nameBytes, `device ${id}`, refuse);
    if (id > MAX_DEVICE_ID) throw refuse(`device ${name} has an id past ${MAX_DEVICE_ID}`, { found: `${id}` });
    if (names.has(name)) throw refuse(`two devices are called ${name}`);
    names.add(name);
    if (sizeBytes > MAX_DEVICE_BYTES) {
      throw refuse(`device ${name} is larger than an archive can hold`, {
        expected: `at most ${MAX_DEVICE_BYTES} bytes`,
      });
    }
    devices.push({ id, name, sizeBytes: trueSize(bytes, at, sizeBytes) });
  }
  return devices;
}

/** Our writer rounds a length that is no multiple of 512 up, and notes the true one (SPEC.md §2.3). */
function trueSize(bytes: Buffer, at: number, sizeBytes: number): number {
  const markAt = at + HEADER_AT.deviceMark;
  if (!bytesEqual(bytes.subarray(markAt, markAt + TRUE_SIZE_MARK.byteLength), TRUE_SIZE_MARK)) return sizeBytes;
  const noted = getSize(bytes, markAt + TRUE_SIZE_MARK.byteLength);
  return noted <= sizeBytes && noted > sizeBytes - SECTOR_BYTES ? noted : sizeBytes;
}

/** A blob as a C string sees it: up to its first NUL; undefined if it does not end with one. */
function terminated(blob: Uint8Array | undefined): Uint8Array | undefined {
  return blob?.at(-1) === 0 ? blob.subarray(0, blob.indexOf(0)) : undefined;
}

function checkedName(bytes: Uint8Array, whose: string, refuse: Refusal): string {
  const name = asBuffer(bytes).toString('utf8');
  if (isBaseName(name) && bytesEqual(Buffer.from(name), bytes)) return name;
  throw refuse(`the name of ${whose} is not a plain file name`, { found: JSON.stringify(name.slice(0, 100)) });
}
