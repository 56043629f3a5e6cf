// SPDX-License-Identifier: MIT
// A guest of 512 bytes: a boot sector that writes 4 KiB blocks to its second disk for ever, one after the other, reads each
// back, and says on port 0xe9 which write was acknowledged.

import { readFileSync, writeFileSync } from 'node:fs';

/** Blocks that it writes to; the disk must have as many at least. */
export const BLOCKS = 4096;
export const BLOCK_BYTES = 4096;

/*
 * Write n goes to block n * 7919 mod BLOCKS, through int 13h, and fills it with n, 32 bits, little-endian. After it was
 * acknowledged n goes to the port; then the block is read back. On an error it says 0xffffffff, on wrong data 0xeeeeeeee,
 * and halts. The source, for as:
 *   xor %ax,%ax; mov %ax,%ds; mov %ax,%ss; mov $0x7c00,%sp; mov $0x1000,%ax; mov %ax,%es; cld; xor %ebp,%ebp
 *   next: inc %ebp; xor %di,%di; mov $1024,%cx; mov %ebp,%eax; rep stosl
 *   mov %ebp,%eax; call place; mov $0x43,%ah; mov $0,%al; call disk; jc failed; mov %ebp,%eax; mov %eax,%ebx; call say
 *   mov %ebp,%eax; call place; mov $0x42,%ah; call disk; jc failed
 *   cmp %es:0,%ebp; jne wrong; cmp %es:4092,%ebp; jne wrong; jmp next
 *   wrong: mov $0xeeeeeeee,%ebx; call say; jmp halt; failed: mov $0xffffffff,%ebx; call say; halt: hlt; jmp halt
 *   say: mov $4,%cx; 1: mov %bl,%al; out %al,$0xe9; shr $8,%ebx; loop 1b; ret
 *   place: mov $7919,%ecx; mul %ecx; mov blocks,%ecx; div %ecx; shl $3,%edx; mov %edx,packet+8; ret
 *   disk: mov $0x81,%dl; mov $packet,%si; int $0x13; ret
 */
const CODE = `
31c08ed88ed0bc007cb800108ec0fc6631ed664531ffb900046689e866f3ab6689e8e85600b443b000e86a0072336689e86689c3e836006689e8e83e
00b442e85400721d26663b2e0000750a26663b2efc0f7502ebbc66bbeeeeeeeee80e00eb0966bbffffffffe80300f4ebfdb9040088d8e6e966c1eb08
e2f6c366b9ef1e000066f7e1668b0ef07d66f7f166c1e203668916a87cc3b281bea07ccd13c36690100008000000001000000000`.replace(
  /\s/g,
  '',
);
const BLOCKS_AT = 0x1f0;
const DISK_BYTES = 1 << 20;

export function writeBootDisk(path: string): void {
  const disk = Buffer.alloc(DISK_BYTES);
  disk.write(CODE, 'hex');
  disk.writeUInt32LE(BLOCKS, BLOCKS_AT);
  disk.writeUInt16LE(0xaa55, 510);
  writeFileSync(path, disk);
}

/** What the guest needs besides the disk that it writes to, which must have bootindex=2. */
export function bootWords(bootDisk: string, log: string): string[] {
  writeFileSync(log, '');
  const drive = `if=none,id=boot,format=raw,readonly=on,file=${bootDisk}`;
  return ['-debugcon', `file:${log}`, '-drive', drive, '-device', 'virtio-blk-pci,drive=boot,bootindex=1'];
}

/** How many writes were acknowledged. @throws when the guest met an error or wrong data */
export function acknowledged(log: string): number {
  const bytes = readFileSync(log);
  const count = Math.floor(bytes.length / 4);
  for (let at = 0; at < count; at++) {
    const number = bytes.readUInt32LE(at * 4);
    if (number !== at + 1)
      throw new Error(`the guest met ${number === 0xeeeeeeee ? 'wrong data' : 'an error'} after write ${at}`);
  }
  return count;
}

/** The disk after so many writes. */
export function afterWrites(before: Uint8Array, writes: number): Buffer {
  const disk = Buffer.from(before);
  const word = Buffer.alloc(4);
  for (let write = 1; write <= writes; write++) {
    word.writeUInt32LE(write);
    const at = ((write * 7919) % BLOCKS) * BLOCK_BYTES;
    disk.fill(word, at, at + BLOCK_BYTES);
  }
  return disk;
}

/** @throws unless the disk is as after that many writes; of the next, any sector may be there */
export function checkWrites(found: Buffer, before: Uint8Array, writes: number): void {
  const [last, next] = [afterWrites(before, writes), afterWrites(before, writes + 1)];
  const wrong: string[] = [];
  for (let at = 0; at < found.length; at += SECTOR_BYTES) {
    const sector = found.subarray(at, at + SECTOR_BYTES);
    const isRight = [last, next].some((disk) => sector.equals(disk.subarray(at, at + SECTOR_BYTES)));
    if (!isRight) wrong.push(`${at}: ${found.readUInt32LE(at)} in place of ${last.readUInt32LE(at)}`);
  }
  if (wrong.length === 0 && found.length === before.length) return;
  throw new Error(`after ${writes} writes ${wrong.length} sectors are wrong: ${wrong.slice(0, 20).join(', ')}`);
}

const SECTOR_BYTES = 512;
