// SPDX-License-Identifier: MIT
// What options and their replies carry: export names, information, metadata contexts. Decoders throw on whatever does
// not fit exactly.

import { asBuffer } from '../../base/bytes.js';
import { ByteReader, malformed, writeUint64 } from './byte-reader.js';
import { INFO } from './constants.js';
import type { ExportSize } from './handshake.js';

/** INFO and GO: which export, and which pieces of information are wished for. */
export interface InfoRequest {
  readonly exportName: string;
  readonly wishes: readonly number[];
}

export function encodeInfoRequest({ exportName, wishes }: InfoRequest): Buffer {
  const name = Buffer.from(exportName);
  const bytes = Buffer.alloc(4 + name.length + 2 + 2 * wishes.length);
  bytes.writeUInt32BE(name.length, 0);
  bytes.set(name, 4);
  bytes.writeUInt16BE(wishes.length, 4 + name.length);
  for (const [index, wish] of wishes.entries()) bytes.writeUInt16BE(wish, 6 + name.length + 2 * index);
  return bytes;
}

export function decodeInfoRequest(bytes: Uint8Array): InfoRequest {
  const reader = new ByteReader(bytes, 'an INFO or GO option');
  const exportName = reader.text(reader.uint32());
  const count = reader.uint16();
  if (reader.leftBytes !== 2 * count) throw malformed(`${count} wishes in ${reader.leftBytes} bytes`);
  return { exportName, wishes: Array.from({ length: count }, () => reader.uint16()) };
}

/** One reply of type INFO. Kinds that we do not know are to be ignored. */
export type Information =
  | ({ readonly kind: 'export' } & ExportSize)
  | { readonly kind: 'name' | 'description'; readonly text: string }
  | {
      readonly kind: 'block-size';
      readonly leastBytes: number;
      readonly preferredBytes: number;
      readonly mostBytes: number;
    }
  | { readonly kind: 'unknown'; readonly type: number };

export function encodeInformation(information: Information): Buffer {
  switch (information.kind) {
    case 'export': {
      const bytes = Buffer.alloc(12);
      bytes.writeUInt16BE(INFO.export, 0);
      writeUint64(bytes, information.sizeBytes, 2);
      bytes.writeUInt16BE(information.transmissionFlags, 10);
      return bytes;
    }
    case 'name':
    case 'description': {
      const type = Buffer.alloc(2);
      type.writeUInt16BE(INFO[information.kind], 0);
      return Buffer.concat([type, Buffer.from(information.text)]);
    }
    case 'block-size': {
      const bytes = Buffer.alloc(14);
      bytes.writeUInt16BE(INFO.blockSize, 0);
      bytes.writeUInt32BE(information.leastBytes, 2);
      bytes.writeUInt32BE(information.preferredBytes, 6);
      bytes.writeUInt32BE(information.mostBytes, 10);
      return bytes;
    }
    case 'unknown': {
      const bytes = Buffer.alloc(2);
      bytes.writeUInt16BE(information.type, 0);
      return bytes;
    }
  }
}

export function decodeInformation(bytes: Uint8Array): Information {
  const reader = new ByteReader(bytes, 'an INFO reply');
  const type = reader.uint16();
  const information = decodeKnown(type, reader);
  if (information === undefined) return { kind: 'unknown', type };
  reader.end();
  return information;
}

function decodeKnown(type: number, reader: ByteReader): Information | undefined {
  switch (type) {
    case INFO.export:
      return { kind: 'export', sizeBytes: reader.uint64(), transmissionFlags: reader.uint16() };
    case INFO.name:
      return { kind: 'name', text: reader.text(reader.leftBytes) };
    case INFO.description:
      return { kind: 'description', text: reader.text(reader.leftBytes) };
    case INFO.blockSize:
      return {
        kind: 'block-size',
        leastBytes: reader.uint32(),
        preferredBytes: reader.uint32(),
        mostBytes: reader.uint32(),
      };
    default:
      return undefined;
  }
}

/** LIST_META_CONTEXT and SET_META_CONTEXT. */
export interface MetaContextRequest {
  readonly exportName: string;
  readonly queries: readonly string[];
}

export function encodeMetaContextRequest({ exportName, queries }: MetaContextRequest): Buffer {
  return Buffer.concat([counted(exportName), uint32(queries.length), ...queries.map(counted)]);
}

export function decodeMetaContextRequest(bytes: Uint8Array): MetaContextRequest {
  const reader = new ByteReader(bytes, 'a META_CONTEXT option');
  const exportName = reader.text(reader.uint32());
  const count = reader.uint32();
  // Each query has a length of its own: a count that cannot be true is told before anything is made for it.
  if (count * 4 > reader.leftBytes) throw malformed(`${count} queries in ${reader.leftBytes} bytes`);
  const queries = Array.from({ length: count }, () => reader.text(reader.uint32()));
  reader.end();
  return { exportName, queries };
}

/** A reply of type META_CONTEXT. */
export interface MetaContext {
  /** Names the context in block status replies; 0 in replies to LIST_META_CONTEXT. */
  readonly id: number;
  readonly name: string;
}

export function encodeMetaContext({ id, name }: MetaContext): Buffer {
  return Buffer.concat([uint32(id), Buffer.from(name)]);
}

export function decodeMetaContext(bytes: Uint8Array): MetaContext {
  const reader = new ByteReader(bytes, 'a META_CONTEXT reply');
  return { id: reader.uint32(), name: reader.text(reader.leftBytes) };
}

/** A reply of type SERVER, to LIST. */
export interface ListedExport {
  readonly name: string;
  readonly description: string;
}

export function encodeListedExport({ name, description }: ListedExport): Buffer {
  return Buffer.concat([counted(name), Buffer.from(description)]);
}

export function decodeListedExport(bytes: Uint8Array): ListedExport {
  const reader = new ByteReader(bytes, 'a SERVER reply');
  return { name: reader.text(reader.uint32()), description: reader.text(reader.leftBytes) };
}

/** Text for people in the data of an error reply; unprintable bytes are replaced, and at most 4096 bytes are read. */
export function decodeMessage(bytes: Uint8Array): string {
  return asBuffer(bytes.subarray(0, 4096))
    .toString('utf8')
    .replace(/\p{Cc}/gu, '?');
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value, 0);
  return bytes;
}

function counted(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([uint32(bytes.length), bytes]);
}
