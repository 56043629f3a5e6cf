// SPDX-License-Identifier: MIT
// A real guest under TCG: QEMU with our kernel, its disks, its serial console and its agent.

import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Machine, startMachine } from '../qmp/machine.js';
import { SerialConsole } from './console.js';
import type { GuestImages } from './images.js';
import { GUEST_NAME } from './root-tree.js';

export interface Guest {
  readonly machine: Machine;
  readonly console: SerialConsole;
  /** The agent's socket, for the backup. */
  readonly agent: string;
  /** Resolves when the console says "login:". */
  untilLogin(): Promise<void>;
  /** In good order: all is unmounted, QEMU has ended by itself. */
  powerOff(): Promise<void>;
  kill(): Promise<void>;
}

/** What a disk of the guest lies on, as words for -blockdev; its node is `NAME`. */
export interface GuestDisks {
  readonly root: string;
  readonly data: string;
}

export const ROOT_DISK = 'scsi0';
export const DATA_DISK = 'virtio1';

export async function startGuest(directory: string, images: GuestImages, disks: GuestDisks): Promise<Guest> {
  const [serial, agent] = [join(directory, 'serial'), join(directory, 'agent')];
  for (const path of [serial, agent]) rmSync(path, { force: true });
  const machine = await startMachine(directory, [
    ...['-cpu', 'max', '-m', '320', '-no-reboot', '-kernel', images.kernel, '-initrd', images.initramfs],
    ...['-append', 'console=ttyS0 quiet panic=-1 random.trust_cpu=on'],
    ...['-chardev', `socket,id=serial,path=${serial},server=on,wait=off`, '-serial', 'chardev:serial'],
    ...['-chardev', `socket,id=agent,path=${agent},server=on,wait=off`, '-device', 'virtio-serial-pci'],
    ...['-device', 'virtserialport,chardev=agent,name=org.qemu.guest_agent.0'],
    ...['-blockdev', disks.root, '-device', 'virtio-scsi-pci', '-device', `scsi-hd,drive=root,id=${ROOT_DISK}`],
    ...['-blockdev', disks.data, '-device', `virtio-blk-pci,drive=data,id=${DATA_DISK}`],
  ]);
  // Made after the monitors.
  while (!existsSync(agent) && machine.child.exitCode === null) await delay(5);
  const console = new SerialConsole(serial);
  return {
    ...{ machine, console, agent },
    untilLogin: async () => {
      await console.expect(new RegExp(`${GUEST_NAME} login: $`));
    },
    powerOff: async () => {
      console.send('poweroff\n');
      await machine.ended;
      machine.monitor.close();
      console.close();
    },
    kill: async () => {
      console.close();
      await machine.kill();
    },
  };
}
