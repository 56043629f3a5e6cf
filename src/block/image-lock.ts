// SPDX-License-Identifier: MIT
// The locks by which QEMU processes agree on who does what with an image file, so that we and QEMU keep out of each
// other's way. For each kind of use there are two bytes of the file: a read lock on the first says "I use it so", one
// on the second "I do not want others to use it so". Nobody ever takes a write lock: each takes its read locks, then
// asks whether a write lock would be refused, that is, whether someone else holds the byte.

import { BusyError, systemErrorCode } from '../base/errors.js';
import { ofdQueryLock, ofdTryLock, ofdUnlock } from '../base/syscalls.js';

/** First byte of "I use it so"; the kind of use is added. */
const USES = 100;
/** First byte of "I do not want others to use it so". */
const FORBIDS = 200;

const KIND = { consistentRead: 0, write: 1, writeUnchanged: 2, resize: 3 } as const;

/** Reading lets others read; writing tolerates nobody. */
const WANTED = {
  read: { uses: [KIND.consistentRead], forbids: [KIND.write, KIND.resize] },
  write: {
    uses: [KIND.consistentRead, KIND.write, KIND.resize],
    forbids: [KIND.consistentRead, KIND.write, KIND.writeUnchanged, KIND.resize],
  },
} as const;

export type ImageUse = keyof typeof WANTED;

/** File systems without such locks, or with their lock service switched off. */
const NO_LOCKS: ReadonlySet<string | undefined> = new Set(['EINVAL', 'ENOLCK', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP']);

/**
 * Takes the locks of a reader or a writer; closing the descriptor gives them up. The descriptor must be open for
 * reading. Throws BusyError 'image-locked', holding nothing, when another process uses the image in a way that excludes
 * this one. Where the file system has no such locks it does nothing.
 */
export function lockImage(fd: number, name: string, use: ImageUse): void {
  const wanted = WANTED[use];
  const ours = bytesOf(use);
  const excluding = [...wanted.uses.map((kind) => FORBIDS + kind), ...wanted.forbids.map((kind) => USES + kind)];
  try {
    // Take first, ask then: of two that come at the same moment at least one sees the other.
    const taken = ours.every((byte) => ofdTryLock(fd, 'read', byte, 1));
    const held = excluding.find((byte) => !ofdQueryLock(fd, 'write', byte, 1));
    if (taken && held === undefined) return;
    for (const byte of ours) ofdUnlock(fd, byte, 1);
    throw locked(name, use, held);
  } catch (error) {
    if (!NO_LOCKS.has(systemErrorCode(error))) throw error;
  }
}

/** Gives up what `lockImage` took; the descriptor stays open. */
export function unlockImage(fd: number, use: ImageUse): void {
  try {
    for (const byte of bytesOf(use)) ofdUnlock(fd, byte, 1);
  } catch (error) {
    if (!NO_LOCKS.has(systemErrorCode(error))) throw error;
  }
}

/** A writer that will change the length no more says so: it lets others rely on the length. */
export function shareLength(fd: number): void {
  try {
    ofdUnlock(fd, USES + KIND.resize, 1);
  } catch (error) {
    if (!NO_LOCKS.has(systemErrorCode(error))) throw error;
  }
}

function bytesOf(use: ImageUse): number[] {
  const { uses, forbids } = WANTED[use];
  return [...uses.map((kind) => USES + kind), ...forbids.map((kind) => FORBIDS + kind)];
}

function locked(name: string, use: ImageUse, heldByte: number | undefined): BusyError {
  const why = reason(heldByte);
  const facts = { object: name, ...(heldByte === undefined ? {} : { found: `a lock on byte ${heldByte}` }) };
  if (use === 'write') {
    return new BusyError('image-locked', `the image is in use and cannot be written: ${why}`, {
      ...facts,
      advice: 'Stop the guest or tool that has it open.',
    });
  }
  return new BusyError('image-locked', `the image is in use and cannot be read: ${why}`, {
    ...facts,
    advice:
      'Stop the guest, or back it up through its QMP socket (--qmp SOCKET), or read it as it is with --force-share.',
  });
}

function reason(heldByte: number | undefined): string {
  if (heldByte === USES + KIND.write || heldByte === USES + KIND.resize) return 'another process writes to it';
  if (heldByte === undefined || heldByte >= FORBIDS) return 'another process does not allow it';
  return 'another process has it open';
}
