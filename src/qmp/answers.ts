// SPDX-License-Identifier: MIT
// What QEMU tells, as far as it is used: types and their decoders. Names are ours; the decoder shows QEMU's.

import { count, type Decoder, flag, type JsonRecord, list, maybe, member, record, text } from './decode.js';

export interface QemuVersion {
  readonly major: number;
  readonly minor: number;
  readonly micro: number;
  /** The distribution's own name for it, or "". */
  readonly package: string;
}

export const qemuVersion: Decoder<QemuVersion> = (value, place) => {
  const answer = record(value, place);
  const qemu = member(answer, 'qemu', record, place);
  return {
    major: member(qemu, 'major', count, place),
    minor: member(qemu, 'minor', count, place),
    micro: member(qemu, 'micro', count, place),
    package: maybe(answer, 'package', text, place) ?? '',
  };
};

export interface RunStatus {
  readonly running: boolean;
  /** "running", "paused", "prelaunch", "inmigrate", "shutdown"… */
  readonly status: string;
}

export const runStatus: Decoder<RunStatus> = (value, place) => {
  const answer = record(value, place);
  return { running: member(answer, 'running', flag, place), status: member(answer, 'status', text, place) };
};

/** Of the migration under way, or the last one. */
export const migrationInfo: Decoder<{ readonly status: string }> = (value, place) => ({
  status: maybe(record(value, place), 'status', text, place) ?? 'none',
});

export interface BitmapInfo {
  /** "" for one without a name, which belongs to a job. */
  readonly name: string;
  readonly dirtyBytes: number;
  readonly granularityBytes: number;
  readonly recording: boolean;
  readonly busy: boolean;
  readonly persistent: boolean;
  readonly inconsistent: boolean;
}

const bitmapInfo: Decoder<BitmapInfo> = (value, place) => {
  const answer = record(value, place);
  return {
    name: maybe(answer, 'name', text, place) ?? '',
    dirtyBytes: member(answer, 'count', count, place),
    granularityBytes: member(answer, 'granularity', count, place),
    recording: maybe(answer, 'recording', flag, place) ?? false,
    busy: maybe(answer, 'busy', flag, place) ?? false,
    persistent: maybe(answer, 'persistent', flag, place) ?? false,
    inconsistent: maybe(answer, 'inconsistent', flag, place) ?? false,
  };
};

export interface BlockNodeInfo {
  readonly nodeName: string;
  readonly driver: string;
  readonly readOnly: boolean;
  /** Of the image, or QEMU's "json:" for what has none. */
  readonly fileName: string;
  readonly sizeBytes: number;
  readonly detectZeroes: string;
  readonly cacheDirect: boolean;
  readonly cacheNoFlush: boolean;
  /** Its image has room for dirty bitmaps, if it may be written to. */
  readonly storesBitmaps: boolean;
  readonly bitmaps: readonly BitmapInfo[];
}

export const blockNodeInfo: Decoder<BlockNodeInfo> = (value, place) => {
  const answer = record(value, place);
  const cache = maybe(answer, 'cache', record, place) ?? {};
  const image = member(answer, 'image', record, place);
  const driver = member(answer, 'drv', text, place);
  return {
    nodeName: maybe(answer, 'node-name', text, place) ?? '',
    driver,
    readOnly: member(answer, 'ro', flag, place),
    fileName: maybe(answer, 'file', text, place) ?? '',
    sizeBytes: member(image, 'virtual-size', count, place),
    detectZeroes: maybe(answer, 'detect_zeroes', text, place) ?? 'off',
    cacheDirect: maybe(cache, 'direct', flag, place) ?? false,
    cacheNoFlush: maybe(cache, 'no-flush', flag, place) ?? false,
    storesBitmaps: driver === 'qcow2' && qcow2Level(image, place) !== '0.10',
    bitmaps: maybe(answer, 'dirty-bitmaps', list(bitmapInfo), place) ?? [],
  };
};

/** "0.10" for version 2 of the format, "1.1" for version 3. */
function qcow2Level(image: JsonRecord, place: string): string | undefined {
  const specific = maybe(image, 'format-specific', record, place);
  const data = specific === undefined ? undefined : maybe(specific, 'data', record, place);
  return data === undefined ? undefined : maybe(data, 'compat', text, place);
}

/** A drive of the guest. */
export interface DriveInfo {
  /** Of -drive id=; "" for one made by -blockdev. */
  readonly device: string;
  /** The device's id, or its path in QOM; undefined for a drive that no device has. */
  readonly qdev: string | undefined;
  readonly removable: boolean;
  readonly trayOpen: boolean;
  /** What is in it, or undefined. */
  readonly inserted: BlockNodeInfo | undefined;
}

export const driveInfo: Decoder<DriveInfo> = (value, place) => {
  const answer = record(value, place);
  const inserted = maybe(answer, 'inserted', blockNodeInfo, place);
  return {
    device: member(answer, 'device', text, place),
    qdev: maybe(answer, 'qdev', text, place),
    removable: member(answer, 'removable', flag, place),
    trayOpen: maybe(answer, 'tray_open', flag, place) ?? false,
    inserted,
  };
};

/** A device's place in QOM, by what `qdev` says of it. */
export function qomPathOf(qdev: string): string {
  return qdev.startsWith('/') ? qdev : `/machine/peripheral/${qdev}`;
}

/** What an object has: properties and children, a child as "child<TYPE>". */
export interface QomMember {
  readonly name: string;
  readonly type: string;
}

export const qomMember: Decoder<QomMember> = (value, place) => {
  const answer = record(value, place);
  return { name: member(answer, 'name', text, place), type: member(answer, 'type', text, place) };
};

export interface ExportInfo {
  readonly id: string;
  /** "nbd", "fuse", "vhost-user-blk"… */
  readonly type: string;
  readonly nodeName: string;
  readonly shuttingDown: boolean;
}

export const exportInfo: Decoder<ExportInfo> = (value, place) => {
  const answer = record(value, place);
  return {
    id: member(answer, 'id', text, place),
    type: member(answer, 'type', text, place),
    nodeName: member(answer, 'node-name', text, place),
    shuttingDown: member(answer, 'shutting-down', flag, place),
  };
};

/** Who uses which node, by node name. */
export interface BlockGraph {
  readonly edges: readonly { readonly parent: string; readonly child: string; readonly name: string }[];
}

export const blockGraph: Decoder<BlockGraph> = (value, place) => {
  const answer = record(value, place);
  const names = new Map<number, string>();
  for (const node of member(answer, 'nodes', list(record), place)) {
    const kind = member(node, 'type', text, place);
    const name = member(node, 'name', text, place);
    // Backends and jobs have names of their own, which may be those of nodes.
    names.set(member(node, 'id', count, place), kind === 'block-driver' ? name : `${kind}:${name}`);
  }
  const edges = member(answer, 'edges', list(record), place).map((edge) => ({
    parent: names.get(member(edge, 'parent', count, place)) ?? '',
    child: names.get(member(edge, 'child', count, place)) ?? '',
    name: member(edge, 'name', text, place),
  }));
  return { edges };
};

export interface JobInfo {
  readonly id: string;
  readonly type: string;
  readonly status: string;
  readonly currentProgress: number;
  readonly totalProgress: number;
  readonly error: string | undefined;
}

export const jobInfo: Decoder<JobInfo> = (value, place) => {
  const answer = record(value, place);
  return {
    id: member(answer, 'id', text, place),
    type: member(answer, 'type', text, place),
    status: member(answer, 'status', text, place),
    currentProgress: member(answer, 'current-progress', count, place),
    totalProgress: member(answer, 'total-progress', count, place),
    error: maybe(answer, 'error', text, place),
  };
};

export interface GuestName {
  readonly name: string;
}

export const guestName: Decoder<GuestName> = (value, place) => ({
  name: maybe(record(value, place), 'name', text, place) ?? '',
});

export const guestUuid: Decoder<{ readonly uuid: string }> = (value, place) => ({
  uuid: member(record(value, place), 'UUID', text, place),
});

/** Every name that stands in the schema: of commands, events, members, and values of enumerations. */
export const schemaNames: Decoder<ReadonlySet<string>> = (value, place) => {
  const names = new Set<string>();
  for (const entity of list(record)(value, place)) {
    const kind = member(entity, 'meta-type', text, place);
    if (kind === 'command' || kind === 'event') names.add(member(entity, 'name', text, place));
    for (const one of maybe(entity, 'members', list(record), place) ?? []) {
      const name = maybe(one, 'name', text, place);
      if (name !== undefined) names.add(name);
    }
    for (const one of maybe(entity, 'values', list(text), place) ?? []) names.add(one);
  }
  return names;
};
