// SPDX-License-Identifier: MIT
// Disks with partition tables, and one with nothing but a boot sector that speaks.

import { randomBytes } from 'node:crypto';
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { crc32 } from 'node:zlib';

export const MIB = 1 << 20;
const SECTOR = 512;

export interface Part {
  readonly atMib: number;
  readonly lengthMib: number;
  /** A file with its content; or none. */
  readonly path?: string;
}

function mbrEntry(sector: Buffer, index: number, type: number, start: number, count: number): void {
  sector[446 + 16 * index + 4] = type;
  sector.writeUInt32LE(start, 446 + 16 * index + 8);
  sector.writeUInt32LE(count, 446 + 16 * index + 12);
  sector.writeUInt16LE(0xaa55, 510);
}

/** One primary partition, and one logical. */
export function mbrSectors(primary: Part, logical: Part): { readonly at: number; readonly bytes: Buffer }[] {
  const [first, link] = [Buffer.alloc(SECTOR), Buffer.alloc(SECTOR)];
  const sectors = (mib: number): number => (mib * MIB) / SECTOR;
  const extended = sectors(logical.atMib - 1);
  mbrEntry(first, 0, 0x83, sectors(primary.atMib), sectors(primary.lengthMib));
  mbrEntry(first, 1, 0x05, extended, sectors(logical.lengthMib + 1));
  mbrEntry(link, 0, 0x0c, sectors(1), sectors(logical.lengthMib));
  return [
    { at: 0, bytes: first },
    { at: extended * SECTOR, bytes: link },
  ];
}

/** With its first copy only. */
export function gptSectors(diskMib: number, parts: readonly Part[]): { readonly at: number; readonly bytes: Buffer }[] {
  const last = (diskMib * MIB) / SECTOR - 1;
  const protective = Buffer.alloc(SECTOR);
  mbrEntry(protective, 0, 0xee, 1, last);
  const entries = Buffer.alloc(128 * 128);
  for (const [index, { atMib, lengthMib }] of parts.entries()) {
    entries.set(randomBytes(32), index * 128);
    entries.writeBigUInt64LE(BigInt((atMib * MIB) / SECTOR), index * 128 + 32);
    entries.writeBigUInt64LE(BigInt(((atMib + lengthMib) * MIB) / SECTOR - 1), index * 128 + 40);
  }
  const header = Buffer.alloc(SECTOR);
  header.write('EFI PART', 'latin1');
  header.writeUInt32LE(0x10000, 8);
  header.writeUInt32LE(92, 12);
  header.writeBigUInt64LE(1n, 24);
  header.writeBigUInt64LE(BigInt(last), 32);
  header.writeBigUInt64LE(2n, 72);
  header.writeUInt32LE(128, 80);
  header.writeUInt32LE(128, 84);
  header.writeUInt32LE(crc32(entries), 88);
  header.writeUInt32LE(crc32(header.subarray(0, 92)), 16);
  return [
    { at: 0, bytes: protective },
    { at: SECTOR, bytes: header },
    { at: 2 * SECTOR, bytes: entries },
  ];
}

export function makeDisk(
  path: string,
  diskMib: number,
  sectors: readonly { readonly at: number; readonly bytes: Uint8Array }[],
  parts: readonly Part[],
): string {
  const fd = openSync(path, 'w');
  ftruncateSync(fd, diskMib * MIB);
  for (const { at, bytes } of sectors) writeSync(fd, bytes, 0, bytes.byteLength, at);
  for (const part of parts) {
    if (part.path === undefined) continue;
    const content = readFileSync(part.path);
    for (let at = 0; at < content.byteLength; at += 65536) {
      const piece = content.subarray(at, at + 65536);
      if (piece.some((byte) => byte !== 0)) writeSync(fd, piece, 0, piece.byteLength, part.atMib * MIB + at);
    }
  }
  closeSync(fd);
  return path;
}

/** Writes a text to the first serial port, character by character as it takes them, and halts. */
export function speakingBootSector(text: string): Buffer {
  const code = [
    ...[0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0xfc], // cli; xor ax,ax; mov ds,ax; cld
    ...[0xbe, 0x23, 0x7c], // mov si, text
    ...[0xac, 0x84, 0xc0, 0x74, 0x12], // next: lodsb; test al,al; jz halt
    ...[0x88, 0xc4, 0xba, 0xfd, 0x03], // mov ah,al; mov dx,0x3fd
    ...[0xec, 0xa8, 0x20, 0x74, 0xfb], // wait: in al,dx; test al,0x20; jz wait
    ...[0x88, 0xe0, 0xba, 0xf8, 0x03, 0xee], // mov al,ah; mov dx,0x3f8; out dx,al
    ...[0xeb, 0xe9], // jmp next
    ...[0xf4, 0xeb, 0xfd], // halt: hlt; jmp halt
  ];
  const sector = Buffer.alloc(512);
  sector.set(code);
  sector.write(`${text}\0`, code.length, 'latin1');
  sector.writeUInt16LE(0x7c00 + code.length, 7);
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}
