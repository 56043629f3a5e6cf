// SPDX-License-Identifier: MIT
// What the flags ask of a guest that runs.

import { resolve } from 'node:path';
import { UsageError } from '../base/errors.js';
import type { MonitorAddress } from '../qmp/monitor.js';

export interface GuestFlags {
  readonly qmp?: string;
  readonly libvirt?: string;
  readonly agent?: string;
  readonly fleece?: string;
  readonly include?: readonly string[];
  readonly exclude?: readonly string[];
  readonly paranoid?: boolean;
}

export interface GuestWish {
  readonly address: MonitorAddress;
  readonly agentPath: string | undefined;
  /** Absolute: QEMU, in a directory of its own, opens files there. */
  readonly fleeceDirectory: string | undefined;
  readonly include: readonly string[];
  readonly exclude: readonly string[];
  /** Read everything, and prove the bitmaps right. */
  readonly paranoid: boolean;
}

/** Undefined where no running guest was given. */
export function parseGuestFlags(flags: GuestFlags): GuestWish | undefined {
  const { qmp, libvirt } = flags;
  if (qmp !== undefined && libvirt !== undefined) {
    throw new UsageError('two-monitors', 'a guest is reached through its socket or through libvirt, not both', {
      object: `--qmp ${qmp} --libvirt ${libvirt}`,
    });
  }
  const address = addressOf(qmp, libvirt);
  if (address === undefined) {
    const stray = (['agent', 'fleece', 'include', 'exclude', 'paranoid'] as const).find((name) => flags[name]);
    if (stray === undefined) return undefined;
    throw new UsageError('needs-qmp', `--${stray} makes sense only for a guest that runs`, {
      object: `--${stray}`,
      advice: 'Give its monitor with --qmp SOCKET or --libvirt DOMAIN.',
    });
  }
  return {
    address,
    agentPath: flags.agent,
    fleeceDirectory: flags.fleece === undefined ? undefined : fleeceDirectory(flags.fleece),
    include: flags.include ?? [],
    exclude: flags.exclude ?? [],
    paranoid: flags.paranoid === true,
  };
}

function fleeceDirectory(path: string): string {
  if (path !== '') return resolve(path);
  throw new UsageError('bad-fleece', 'the name of the fleecing directory is missing', { object: '--fleece' });
}

function addressOf(qmp: string | undefined, libvirt: string | undefined): MonitorAddress | undefined {
  if (qmp === '' || libvirt === '') {
    throw new UsageError('bad-qmp', 'the name of a socket or domain is missing', { object: '--qmp, --libvirt' });
  }
  if (qmp !== undefined) return { kind: 'socket', path: qmp };
  return libvirt === undefined ? undefined : { kind: 'libvirt', domain: libvirt };
}
