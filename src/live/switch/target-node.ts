// SPDX-License-Identifier: MIT
// The node that a guest gets in place of our export: the target itself. It takes no image locks until something uses it.

import { basename, dirname } from 'node:path';
import { FailedError } from '../../base/errors.js';
import type { BlockNodeInfo } from '../../qmp/answers.js';
import type { BlockdevOptions, FileOptions } from '../../qmp/commands.js';
import type { Monitor } from '../../qmp/monitor.js';
import type { ExportUse } from './export-use.js';
import { type GuestView, nodeNamed } from './guest-view.js';

export interface TargetWish {
  readonly disk: string;
  /** Absolute. */
  readonly path: string;
  readonly isDevice: boolean;
}

const MOST_NAME_CHARACTERS = 31;

/** "restored-scsi0"; where that is taken, "restored-scsi0-2". */
export function targetNodeName(view: GuestView, disk: string, others: readonly string[]): string {
  for (let turn = 1; ; turn++) {
    const end = turn === 1 ? '' : `-${turn}`;
    const name = `restored-${disk}`.slice(0, MOST_NAME_CHARACTERS - end.length) + end;
    if (nodeNamed(view, name) === undefined && !others.includes(name)) return name;
  }
}

/**
 * Adds it with the disk's size, whatever the target's is, and in the thread that serves the device.
 * @throws FailedError 'target-refused' with QEMU's reason
 */
export async function addTargetNode(
  monitor: Monitor,
  nodeName: string,
  target: TargetWish,
  use: ExportUse,
): Promise<void> {
  const { sizeBytes, cacheDirect } = use.nbd;
  try {
    let options = targetOptions(nodeName, target, use.place.top, cacheDirect);
    try {
      await monitor.execute('blockdev-add', options);
    } catch (error) {
      // O_DIRECT means nothing to an NBD node, but not every file system has it.
      if (!cacheDirect || !isRefusal(error)) throw error;
      options = targetOptions(nodeName, target, use.place.top, false);
      await monitor.execute('blockdev-add', options);
    }
    const added = (await monitor.execute('query-named-block-nodes', { flat: true })).find(
      (node) => node.nodeName === nodeName,
    );
    if (added !== undefined && added.sizeBytes > sizeBytes) {
      await monitor.execute('blockdev-del', { 'node-name': nodeName });
      await monitor.execute('blockdev-add', cutOff(options, sizeBytes));
    }
    await joinThread(monitor, nodeName, use);
  } catch (error) {
    throw isRefusal(error) ? targetRefused(target, error, monitor.name) : error;
  }
}

function targetOptions(
  nodeName: string,
  { path, isDevice }: TargetWish,
  top: BlockNodeInfo,
  direct: boolean,
): BlockdevOptions & FileOptions {
  return {
    driver: isDevice ? 'host_device' : 'file',
    filename: path,
    'node-name': nodeName,
    // Whether the guest's node passed discards on cannot be asked for; a disk that does loses nothing.
    discard: 'unmap',
    'detect-zeroes': top.detectZeroes,
    'read-only': top.readOnly,
    cache: { direct, 'no-flush': top.cacheNoFlush },
  };
}

/** The guest is to see no more of the target than the disk. */
function cutOff({ 'node-name': nodeName, ...file }: BlockdevOptions & FileOptions, sizeBytes: number): BlockdevOptions {
  return { driver: 'raw', 'node-name': nodeName, size: sizeBytes, discard: 'unmap', file };
}

/**
 * A disk of a SCSI controller with an iothread stays in that thread, also while the guest stands still, and gets a new
 * drive only from there. One with an iothread of its own does not, and a raw node takes what is put under it along.
 */
async function joinThread(monitor: Monitor, nodeName: string, { place }: ExportUse): Promise<void> {
  const thread = place.kind === 'device' ? await iothreadOf(monitor, place.qomPath) : undefined;
  if (thread?.of !== 'controller') return;
  await monitor.execute('x-blockdev-set-iothread', { 'node-name': nodeName, iothread: thread.id });
}

/** The iothread that serves a device. */
export async function iothreadOf(
  monitor: Monitor,
  qomPath: string,
): Promise<{ readonly of: 'device' | 'controller'; readonly id: string } | undefined> {
  const own = await property(monitor, qomPath, 'iothread');
  if (own !== '') return { of: 'device', id: basename(own) };
  const bus = await property(monitor, qomPath, 'parent_bus');
  const controllers = bus === '' ? '' : await property(monitor, dirname(bus), 'iothread');
  return controllers === '' ? undefined : { of: 'controller', id: basename(controllers) };
}

/** "" where the object has none of that name. */
async function property(monitor: Monitor, path: string, name: string): Promise<string> {
  try {
    return await monitor.execute('qom-get', { path, property: name });
  } catch (error) {
    if (isRefusal(error)) return '';
    throw error;
  }
}

export function isRefusal(error: unknown): error is FailedError {
  return error instanceof FailedError && error.code === 'qmp-command-failed';
}

function targetRefused({ path }: TargetWish, error: FailedError, object: string): FailedError {
  const isForbidden = /permission denied|not permitted/i.test(error.message);
  return new FailedError('target-refused', `QEMU does not take the target: ${error.message}`, {
    object: path,
    found: object,
    advice: isForbidden
      ? "Let QEMU's user read and write it (chown), and its AppArmor or SELinux rules."
      : 'The guest goes on as it is; see to it that QEMU can open the target under this name.',
    cause: error,
  });
}
