// SPDX-License-Identifier: MIT
// Boots a guest from its backup, without a network, until something stands on its serial console.
//
// Guarantee: nothing of it reaches the backup or any network; QEMU ends with the drill, however that ends.

import { access, constants } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { LONGEST_DELAY_MILLIS } from '../../base/clock.js';
import { FailedError } from '../../base/errors.js';
import { NbdServer } from '../../nbd/server/nbd-server.js';
import { ConsoleText } from './console-text.js';
import type { DrillDisk } from './drill-disk.js';
import type { DrillPlace } from './drill-place.js';
import { GuardedProgram } from './guarded-program.js';

export const DISK_BUSES = ['scsi', 'virtio', 'sata', 'ide'] as const;
export type DiskBus = (typeof DISK_BUSES)[number];

export interface BootWish {
  /** What must come up on the console. */
  readonly until: string;
  readonly timeoutSeconds: number;
  readonly memoryBytes: number;
  readonly processors: number;
  /** By default as each disk's name says. */
  readonly bus: DiskBus | undefined;
  /** The guest's firmware, such as OVMF; undefined: QEMU's BIOS. */
  readonly firmware: string | undefined;
}

export interface Booted {
  readonly ok: boolean;
  /** The line that was waited for. */
  readonly line?: string;
  readonly problem?: string;
  /** How long it took from the start of the guest. */
  readonly bootSeconds: number;
  /** The last lines of the console. */
  readonly console: readonly string[];
  readonly accelerator: Accelerator;
}

export type Accelerator = 'kvm' | 'tcg';

const MOST_LINES = 30;
/** What QEMU itself says, not the guest. */
const OF_QEMU = /^qemu(?:-system-\S+)?: /;
const LIMITS = { bytesPerServer: 128 << 20, bytesPerConnection: 48 << 20 };
const MIB = 1 << 20;

/** @throws FailedError if there is no QEMU */
export async function bootGuest(disks: readonly DrillDisk[], wish: BootWish, place: DrillPlace): Promise<Booted> {
  const { socketPath } = place;
  const exports = disks.map(({ name, node }) => ({ name, device: node, readOnly: false }));
  const server = new NbdServer({ exports, limits: LIMITS, log: place.log });
  await server.listenUnix(socketPath);
  try {
    const names = disks.map(({ name }) => name);
    const words = (accelerator: Accelerator) => qemuWords(names, socketPath, accelerator, wish);
    if (!(await hasKvm())) return await watch(words('tcg'), 'tcg', wish, place);
    const booted = await watch(words('kvm'), 'kvm', wish, place);
    if (booted.ok || !booted.isBroken) return booted;
    place.log.info(`KVM does not work here, so the guest is emulated, slowly: ${booted.problem}`);
    return await watch(words('tcg'), 'tcg', wish, place);
  } finally {
    await server.close({ graceMillis: 0 });
  }
}

/** Whether we may use it; whether it works, QEMU tells: in a guest without nested virtualisation it may not. */
async function hasKvm(): Promise<boolean> {
  return await access('/dev/kvm', constants.R_OK | constants.W_OK).then(
    () => true,
    () => false,
  );
}

interface Watched extends Booted {
  /** QEMU failed before the guest said anything. */
  readonly isBroken: boolean;
}

async function watch(
  words: readonly string[],
  accelerator: Accelerator,
  wish: BootWish,
  place: DrillPlace,
): Promise<Watched> {
  const { signal, directory } = place;
  const text = new ConsoleText(wish.until);
  const started = performance.now();
  let tellFound: () => void = () => {};
  const found = new Promise<void>((resolve) => {
    tellFound = resolve;
  });
  const qemu = new GuardedProgram(directory, words, (piece) => {
    text.add(piece);
    if (text.found !== undefined) tellFound();
  });
  const over = new AbortController();
  const lateMillis = Math.min(wish.timeoutSeconds * 1000, LONGEST_DELAY_MILLIS);
  const late = delay(lateMillis, undefined, { signal: over.signal }).catch(() => undefined);
  const stop = (): void => over.abort();
  signal.addEventListener('abort', stop, { once: true });
  try {
    await Promise.race([found, qemu.ended, late]);
    signal.throwIfAborted();
    const bootSeconds = Math.round(performance.now() - started) / 1000;
    const facts = { bootSeconds, console: text.lastLines(MOST_LINES), accelerator, isBroken: false };
    if (text.found !== undefined) return { ok: true, line: text.found, ...facts };
    if (!qemu.hasEnded) {
      const problem = `it had not come up after ${wish.timeoutSeconds} s`;
      return { ok: false, problem, ...facts };
    }
    const { status, said } = await qemu.ended;
    if (status === undefined) throw qemuMissing();
    const why = status === 0 ? undefined : said.split('\n').findLast((line) => OF_QEMU.test(line));
    const isBroken = status !== 0 && facts.console.length === 0;
    return { ok: false, problem: why ?? 'the guest switched itself off or began anew', ...facts, isBroken };
  } finally {
    signal.removeEventListener('abort', stop);
    over.abort();
    await qemu.end();
  }
}

function qemuWords(names: readonly string[], socketPath: string, accelerator: Accelerator, wish: BootWish): string[] {
  const { memoryBytes, processors, bus, firmware } = wish;
  const buses = names.map((name) => bus ?? busOf(name));
  return [
    ...['qemu-system-x86_64', '-nodefaults', '-no-user-config', '-name', 'vmar-drill', '-no-reboot'],
    ...['-machine', 'q35', '-accel', accelerator, '-cpu', 'max', '-smp', String(processors)],
    ...['-m', `${Math.ceil(memoryBytes / MIB)}M`, '-display', 'none', '-vga', 'std'],
    ...['-nic', 'none', '-device', 'virtio-rng-pci', '-rtc', 'base=utc'],
    ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    ...['-chardev', 'stdio,id=console,signal=off', '-serial', 'chardev:console'],
    ...(firmware === undefined ? [] : ['-bios', firmware]),
    ...(buses.includes('scsi') ? ['-device', 'virtio-scsi-pci,id=scsi'] : []),
    ...names.flatMap((name, index) => {
      const node = {
        ...{ driver: 'nbd', 'node-name': `disk${index}`, export: name },
        server: { type: 'unix', path: socketPath },
      };
      return ['-blockdev', JSON.stringify(node), '-device', deviceOf(buses[index]!, index)];
    }),
  ];
}

function deviceOf(bus: DiskBus, index: number): string {
  const drive = `drive=disk${index},bootindex=${index}`;
  switch (bus) {
    case 'scsi':
      return `scsi-hd,bus=scsi.0,${drive}`;
    case 'virtio':
      return `virtio-blk-pci,${drive}`;
    // The machine's own controller has six ports, and IDE disks of old guests are found there, too.
    case 'sata':
    case 'ide':
      return `ide-hd,bus=ide.${index},${drive}`;
  }
}

function busOf(name: string): DiskBus {
  const match = /(scsi|virtio|sata|ide)\d*$/.exec(name);
  return (match?.[1] as DiskBus | undefined) ?? 'virtio';
}

function qemuMissing(): FailedError {
  return new FailedError('qemu-missing', 'there is no QEMU to boot the guest in', {
    object: 'qemu-system-x86_64',
    advice: 'Install the Debian package qemu-system-x86, or drill with --fsck.',
  });
}
