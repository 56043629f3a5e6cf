// SPDX-License-Identifier: MIT
// Tells disk image formats apart, by their first bytes or because the user says so.

/** So many bytes from the start are enough for `detectImageFormat`. */
export const PROBE_BYTES = 512;

const SIGNATURES: readonly { readonly format: string; readonly at: number; readonly bytes: Buffer }[] = [
  { format: 'qcow2', at: 0, bytes: Buffer.from('QFI\xfb', 'latin1') },
  { format: 'qed', at: 0, bytes: Buffer.from('QED\0', 'latin1') },
  { format: 'vmdk', at: 0, bytes: Buffer.from('KDMV', 'latin1') },
  { format: 'vmdk', at: 0, bytes: Buffer.from('COWD', 'latin1') },
  { format: 'vmdk', at: 0, bytes: Buffer.from('# Disk DescriptorFile', 'latin1') },
  { format: 'vdi', at: 0x40, bytes: Buffer.from([0x7f, 0x10, 0xda, 0xbe]) },
  { format: 'vhdx', at: 0, bytes: Buffer.from('vhdxfile', 'latin1') },
  { format: 'vpc', at: 0, bytes: Buffer.from('conectix', 'latin1') },
];

/** The format by the name that qemu-img gives it, or undefined for what can only be raw. */
export function detectImageFormat(start: Uint8Array): string | undefined {
  const bytes = Buffer.from(start.buffer, start.byteOffset, start.byteLength);
  const match = SIGNATURES.find((known) => known.bytes.equals(bytes.subarray(known.at, known.at + known.bytes.length)));
  return match?.format;
}

const NAMED = /^(raw|qcow2|qed|vmdk|vdi|vhdx|vpc):(.+)$/s;

/** "qcow2:/dev/vg/disk" is told to be qcow2; a path of that kind is written with "./" before it. */
export function splitFormat(target: string): { readonly path: string; readonly format: string | undefined } {
  const found = NAMED.exec(target);
  return found === null ? { path: target, format: undefined } : { path: found[2]!, format: found[1]! };
}
