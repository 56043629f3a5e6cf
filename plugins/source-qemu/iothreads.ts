// SPDX-License-Identifier: MIT
// Disks that an iothread serves.
//
// Before QEMU 9.0 an NBD export of such a disk closes a client's connection in that thread; in some of these versions
// (Debian's 7.2.22 for one) an assertion then ends QEMU, and the guest with it, as soon as the client goes. A backup must
// never cost the guest: there the disk is refused.

import { dirname } from 'node:path';
import { FailedError } from '../../src/base/errors.js';
import type { Monitor } from '../../src/plugin-api.js';
import type { FoundDisk } from './find-disks.js';

const SOUND_MAJOR = 9;

/** @throws FailedError 'iothread-unsafe', which names the disks */
export async function refuseUnsafe(monitor: Monitor, disks: readonly FoundDisk[]): Promise<void> {
  const { major, minor, micro } = await monitor.execute('query-version', {});
  if (major >= SOUND_MAJOR) return;
  const unsafe: string[] = [];
  for (const { name, insertion } of disks) {
    if (insertion.kind === 'device' && (await isInIothread(monitor, insertion.qomPath))) unsafe.push(name);
  }
  if (unsafe.length === 0) return;
  const message = `an iothread serves ${unsafe.join(', ')}, and this QEMU may crash when such a disk is exported`;
  throw new FailedError('iothread-unsafe', message, {
    object: monitor.name,
    expected: `QEMU ${SOUND_MAJOR}.0 or later`,
    found: `QEMU ${major}.${minor}.${micro}`,
    advice: 'Update QEMU, or start the guest without iothreads, or leave these disks out with --exclude NAME.',
  });
}

/** The device's own iothread, or that of the controller it hangs on. */
async function isInIothread(monitor: Monitor, qomPath: string): Promise<boolean> {
  const own = await property(monitor, qomPath, 'iothread');
  if (own !== undefined) return own !== '';
  const bus = await property(monitor, qomPath, 'parent_bus');
  const controllers = bus === undefined || bus === '' ? undefined : await property(monitor, dirname(bus), 'iothread');
  return controllers !== undefined && controllers !== '';
}

/** Undefined where the object has none of that name. */
async function property(monitor: Monitor, path: string, name: string): Promise<string | undefined> {
  try {
    return await monitor.execute('qom-get', { path, property: name });
  } catch (error) {
    if (error instanceof FailedError && error.code === 'qmp-command-failed') return undefined;
    throw error;
  }
}
