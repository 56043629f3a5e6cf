// SPDX-License-Identifier: MIT
// Tells what of a guest is in none of its disks and was not given with --blob either.

import type { OutsideState } from '../plugin-api.js';
import { type BlobWish, isAmong } from './blobs.js';
import type { Context } from './context.js';
import { printable } from './printable.js';

/** Gives what is not kept. Of a TPM's state QEMU does not know the file: any blob that is no flash's stands for it. */
export async function tellOutside(
  { log }: Context,
  outside: readonly OutsideState[],
  blobs: readonly BlobWish[],
): Promise<readonly OutsideState[]> {
  const lost: OutsideState[] = [];
  let others = blobs.length;
  for (const state of outside.filter(({ kind }) => kind === 'firmware-variables')) {
    if (state.path !== undefined && (await isAmong(state.path, blobs))) others--;
    else if (state.path === undefined && others > 0) others--;
    else lost.push(state);
  }
  for (const state of outside.filter(({ kind }) => kind !== 'firmware-variables')) {
    if (state.kind === 'tpm' && others > 0) others--;
    else lost.push(state);
  }
  for (const state of lost) log.warn(sentence(state));
  return lost;
}

function sentence({ kind, name, path }: OutsideState): string {
  const what = printable(name);
  if (kind === 'firmware-variables') {
    return `the firmware's variables (${what}) are not kept; --blob ${printable(path ?? 'FILE')} keeps them`;
  }
  if (kind === 'host-tpm') return `the state of the TPM ${what} cannot be kept: it is the host's own`;
  return `the state of the TPM ${what} is not kept; --blob FILE keeps it, where FILE is swtpm's (tpm2-00.permall)`;
}
