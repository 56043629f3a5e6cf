// SPDX-License-Identifier: MIT
// What lies in a partition, by the marks that each kind leaves.

import type { BlockDevice } from '../../block/device.js';
import { readUpTo } from './partitions.js';

export type ContentKind = 'ext' | 'xfs' | 'btrfs' | 'vfat' | 'other' | 'unknown' | 'empty';

export interface Content {
  readonly kind: ContentKind;
  /** For people: "ext4", "LVM2 member". */
  readonly name: string;
  /** A journal waits to be replayed, by the file system's own word. */
  readonly wantsReplay: boolean;
}

const LOOK_BYTES = 72 * 1024;
const EXT_NEEDS_RECOVERY = 0x4;
const EXT_HAS_JOURNAL = 0x4;
const EXT_EXTENTS = 0x40;

/** Marks of what nobody can check from outside of the guest. */
const OTHERS: readonly (readonly [at: number, mark: string, name: string])[] = [
  [3, 'NTFS    ', 'NTFS'],
  [3, '-FVE-FS-', 'BitLocker'],
  [0, 'LUKS\xba\xbe', 'LUKS'],
  [4086, 'SWAPSPACE2', 'swap'],
  [4086, 'SWAP-SPACE', 'swap'],
  [32769, 'CD001', 'ISO 9660'],
  [0x218, 'LVM2 001', 'LVM2 member'],
  [0x18, 'LVM2 001', 'LVM2 member'],
  [3, 'EXFAT   ', 'exFAT'],
  [4096, '\xfc\x4e\x2b\xa9', 'Linux RAID member'],
  [0, '\xfc\x4e\x2b\xa9', 'Linux RAID member'],
];

export async function contentOf(device: BlockDevice): Promise<Content> {
  const head = await readUpTo(device, 0, LOOK_BYTES);
  const has = (at: number, mark: string): boolean => head.toString('latin1', at, at + mark.length) === mark;
  const plain = (kind: ContentKind, name: string): Content => ({ kind, name, wantsReplay: false });
  if (has(0, 'XFSB')) return plain('xfs', 'xfs');
  if (has(65536 + 64, '_BHRfS_M')) return plain('btrfs', 'btrfs');
  const other = OTHERS.find(([at, mark]) => has(at, mark));
  if (other !== undefined) return plain('other', other[2]);
  if (head.byteLength >= 2048 && head.readUInt16LE(1024 + 56) === 0xef53) return ext(head);
  const isFat = has(54, 'FAT12   ') || has(54, 'FAT16   ') || has(82, 'FAT32   ');
  if (isFat) return plain('vfat', 'vfat');
  return head.every((byte) => byte === 0) ? plain('empty', 'nothing') : plain('unknown', 'unknown');
}

function ext(head: Buffer): Content {
  const [compatible, incompatible] = [head.readUInt32LE(1024 + 92), head.readUInt32LE(1024 + 96)];
  const hasJournal = (compatible & EXT_HAS_JOURNAL) !== 0;
  const name = (incompatible & EXT_EXTENTS) !== 0 ? 'ext4' : hasJournal ? 'ext3' : 'ext2';
  return { kind: 'ext', name, wantsReplay: (incompatible & EXT_NEEDS_RECOVERY) !== 0 };
}

/** FAT keeps a mark while it is mounted, and nothing to replay: without it the check looks at what there is. */
export async function clearFatMark(device: BlockDevice): Promise<boolean> {
  const head = await readUpTo(device, 0, 512);
  const at = head.toString('latin1', 82, 87) === 'FAT32' ? 0x41 : 0x25;
  const mark = head[at] ?? 0;
  if ((mark & 1) === 0) return false;
  await device.write(at, Uint8Array.of(mark & ~1));
  return true;
}
