// SPDX-License-Identifier: MIT
// What QEMU tells of a guest's hardware, as far as it is kept with a backup. Names are ours; the decoder shows QEMU's.

import { count, type Decoder, flag, type JsonRecord, list, maybe, member, record, text } from './decode.js';

export interface CpuInfo {
  readonly qomPath: string;
  /** Of the processor: "x86_64". */
  readonly target: string;
}

export const cpuInfo: Decoder<CpuInfo> = (value, place) => {
  const answer = record(value, place);
  return { qomPath: member(answer, 'qom-path', text, place), target: member(answer, 'target', text, place) };
};

export interface MemorySize {
  readonly baseBytes: number;
  readonly pluggedBytes: number;
}

export const memorySize: Decoder<MemorySize> = (value, place) => {
  const answer = record(value, place);
  return {
    baseBytes: member(answer, 'base-memory', count, place),
    pluggedBytes: maybe(answer, 'plugged-memory', count, place) ?? 0,
  };
};

export const kvmEnabled: Decoder<boolean> = (value, place) => member(record(value, place), 'enabled', flag, place);

export interface PciDevice {
  /** "0:3.0": bus, slot, function. */
  readonly place: string;
  readonly description: string;
  /** Vendor and device, "1af4:1001". */
  readonly id: string;
  /** The device's id, or "". */
  readonly qdev: string;
}

/** A bridge's devices stand behind it. */
const MOST_BUS_DEPTH = 16;

export const pciDevices: Decoder<readonly PciDevice[]> = (value, place) =>
  list(record)(value, place).flatMap((bus) => devicesOf(bus, place, 0));

function devicesOf(bus: JsonRecord, place: string, depth: number): PciDevice[] {
  if (depth > MOST_BUS_DEPTH) return [];
  return (maybe(bus, 'devices', list(record), place) ?? []).flatMap((device) => {
    const number = (name: string) => member(device, name, count, place);
    const id = member(device, 'id', record, place);
    const hex = (name: string) => (maybe(id, name, count, place) ?? 0).toString(16).padStart(4, '0');
    const found: PciDevice = {
      place: `${number('bus')}:${number('slot')}.${number('function')}`,
      description: maybe(member(device, 'class_info', record, place), 'desc', text, place) ?? '',
      id: `${hex('vendor')}:${hex('device')}`,
      qdev: maybe(device, 'qdev_id', text, place) ?? '',
    };
    const bridge = maybe(device, 'pci_bridge', record, place);
    return [found, ...(bridge === undefined ? [] : devicesOf(bridge, place, depth + 1))];
  });
}

export interface CharacterDevice {
  readonly label: string;
  /** "unix:/run/…", "pty:/dev/pts/1", "stdio"… */
  readonly place: string;
}

export const characterDevice: Decoder<CharacterDevice> = (value, place) => {
  const answer = record(value, place);
  // Whether somebody is connected just now is no part of the configuration.
  const named = member(answer, 'filename', text, place).replace(/^disconnected:/, '');
  return { label: member(answer, 'label', text, place), place: named.replace(/ <-> .*$/, '') };
};

export interface NetworkCard {
  readonly name: string;
  readonly mac: string;
}

export const networkCard: Decoder<NetworkCard> = (value, place) => {
  const answer = record(value, place);
  return { name: member(answer, 'name', text, place), mac: member(answer, 'main-mac', text, place) };
};

export interface TpmInfo {
  readonly id: string;
  readonly model: string;
  /** "emulator" (swtpm), or "passthrough": the host's own. */
  readonly type: string;
  /** Of an emulator: the label of its character device. */
  readonly characterDevice: string;
}

export const tpmInfo: Decoder<TpmInfo> = (value, place) => {
  const answer = record(value, place);
  const options = member(answer, 'options', record, place);
  const data = maybe(options, 'data', record, place) ?? {};
  return {
    id: member(answer, 'id', text, place),
    model: member(answer, 'model', text, place),
    type: member(options, 'type', text, place),
    characterDevice: maybe(data, 'chardev', text, place) ?? '',
  };
};

export const iothreadId: Decoder<string> = (value, place) => member(record(value, place), 'id', text, place);
