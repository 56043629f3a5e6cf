// SPDX-License-Identifier: MIT
// Who uses a device how, and what he lets others do meanwhile, after QEMU's node permissions: so that two jobs do not
// quarrel over one device. Claims are a matter between the parts of this process; other processes see image locks.

import { BusyError } from '../base/errors.js';
import type { BlockDevice } from './device.js';
import { checkWritable } from './range.js';

/**
 * - `consistent-read`: what is read has to make sense as a whole;
 * - `write`: changes content;
 * - `write-unchanged`: writes only what reads the same before and after (filling from a backing);
 * - `resize`: changes the length.
 */
export type Permission = 'consistent-read' | 'write' | 'write-unchanged' | 'resize';

export const ALL_PERMISSIONS: readonly Permission[] = ['consistent-read', 'write', 'write-unchanged', 'resize'];

export interface Claim {
  /** As messages name the holder. */
  readonly who: string;
  readonly uses: readonly Permission[];
  readonly shares: readonly Permission[];
  /** Calling it again does nothing. */
  release(): void;
}

const claims = new WeakMap<BlockDevice, Set<Claim>>();

/**
 * Says that `who` uses the device in these ways and lets others use it in those. Exclusive writing shares nothing or
 * `consistent-read`; a reader that must see one state shares all but `write`.
 *
 * Throws BusyError `device-claimed`, naming both holders, where one uses what the other does not share, and UsageError
 * for writing to a read-only device. A claim is of the object: claim what everyone goes through, as a BlockNode.
 */
export function claim(
  device: BlockDevice,
  who: string,
  uses: readonly Permission[],
  shares: readonly Permission[],
): Claim {
  if (uses.some((permission) => permission !== 'consistent-read')) checkWritable(device);
  const holders = claims.get(device) ?? new Set<Claim>();
  for (const holder of holders) checkTogether(device, holder, { who, uses, shares });
  const made: Claim = { who, uses: [...uses], shares: [...shares], release: () => void holders.delete(made) };
  claims.set(device, holders.add(made));
  return made;
}

/** Those who hold a claim of the device now, oldest first. */
export function claimsOf(device: BlockDevice): Claim[] {
  return [...(claims.get(device) ?? [])];
}

type Asked = Pick<Claim, 'who' | 'uses' | 'shares'>;

function checkTogether(device: BlockDevice, holder: Claim, asked: Asked): void {
  const wanted = asked.uses.find((permission) => !holder.shares.includes(permission));
  const held = holder.uses.find((permission) => !asked.shares.includes(permission));
  if (wanted === undefined && held === undefined) return;
  const why =
    wanted === undefined
      ? `${holder.who} uses it for ${held}, which ${asked.who} does not allow`
      : `${asked.who} wants it for ${wanted}, which ${holder.who} does not allow`;
  throw new BusyError('device-claimed', why, {
    object: device.name,
    expected: `a device that ${holder.who} does not hold`,
    advice: `Wait until ${holder.who} has ended, or end it.`,
  });
}
