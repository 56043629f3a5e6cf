// SPDX-License-Identifier: MIT
// What plugins see of vmar: sources give a BlockDevice, sinks take a DumpSink. Nothing else of src/ is theirs.

import type { BlockDevice } from './block/device.js';

export type { BlockDevice, BlockExtent, BlockState } from './block/device.js';
export { type BitmapInfo, type BlockNodeInfo, type DriveInfo, qomPathOf } from './qmp/answers.js';
export type { BitmapPlace, BlockdevOptions, Step, TransactionAction } from './qmp/commands.js';
export { driveStep, rawOptions, reopenStep } from './qmp/graph-steps.js';
export { refuseMigrating } from './qmp/migration.js';
export type { Monitor, MonitorAddress } from './qmp/monitor.js';
export type { WindowPlan, WindowReport, WindowStep } from './qmp/window-plan.js';

/** The content of clusters that are all zero. */
export const ZERO = Symbol('zero');
/** The content of clusters that are as in the parent, the guest's previous backup. */
export const SAME_AS_PARENT = Symbol('same as parent');

export type DiskKind = 'disk' | 'vmstate' | 'blob';
export type ConsistencyKind = 'offline' | 'crash' | 'agent-frozen';

/** One disk as a sink must know it before the first cluster. */
export interface DiskDescription {
  /** Matches `[A-Za-z0-9][A-Za-z0-9._-]{0,62}`; unique in the backup. */
  readonly name: string;
  readonly kind: DiskKind;
  /** True length in bytes; for a stream of unknown length `undefined`, and the end is told by `endStream`. */
  readonly sizeBytes: number | undefined;
  readonly bitmapName?: string;
  /** Why it is read in full although a bitmap was asked for. */
  readonly fullReason?: string;
  readonly forceShared?: boolean;
  /** What did not change is to come from the parent, if that can be used; where it cannot, that is why all is read. */
  readonly restsOnParent?: boolean;
}

/** The reason for a full read that comes out only when the sink begins. */
export const PARENT_UNUSABLE =
  'the last backup cannot be used: what it rests on is damaged, gone, or not yet sorted by gc';

export interface BackupDescription {
  /** "" for none. */
  readonly namespace: string;
  readonly guestId: string;
  readonly guestName?: string;
  /** 16 bytes. */
  readonly guestUuid?: Uint8Array;
  /** Seconds since 1970; a sink may add whole seconds to make it unique. */
  readonly timeSeconds: number;
  /** The time is what a clock said just now: where the guest has a later backup, the clock is wrong, not the order. */
  readonly isTimeOfClock?: boolean;
  /** "image", "nbd", "qemu", "vma", "vmar". */
  readonly source: string;
  /** 16 bytes; of what was imported. */
  readonly sourceUuid?: Uint8Array;
  readonly consistency: ConsistencyKind;
  readonly disks: readonly DiskDescription[];
  readonly configs: readonly { readonly name: string; readonly content: Uint8Array }[];
  readonly labels?: ReadonlyMap<string, string>;
  /** Kept, like labels, only beside a backup in a datastore. */
  readonly notes?: string;
  readonly isProtected?: boolean;
}

/** Counts of one disk, bytes; `read + zero(unread) + unchanged(unread)` is its size. */
export interface DiskCounts {
  readonly name: string;
  readonly sizeBytes: number;
  readonly readBytes: number;
  readonly zeroBytes: number;
  readonly unchangedBytes: number;
  readonly newBytes: number;
  readonly storedBytes: number;
}

export interface DumpResult {
  /** The full id of what was written, or the file's name for an archive. */
  readonly backup: string;
  readonly disks: readonly DiskCounts[];
}

/**
 * Receives the clusters of one backup, after QEMU's BackupDumpFunc.
 *
 * The calls are: `begin`, any number of `lease`/`dump`/`dumpRange` (and `endStream`) in any order and interleaving of
 * disks, then `finish` or `abort`, once. Every cluster of every disk is dumped exactly once; `finish` refuses a backup
 * with a cluster missing, and a second dump of a cluster rejects.
 *
 * Memory: `lease` gives a slot of `slotBytes` out of a fixed number, and waits while all are in use; that is the
 * back-pressure. `dump` takes the slot's ownership, also when it rejects.
 *
 * Durability: a resolved `dump` means accepted, nothing more. Once `finish` resolves, the whole backup is durable and
 * visible; before that nothing of it is visible. After a rejection of any call only `abort` may be called; it leaves
 * nothing visible behind.
 */
export interface DumpSink {
  /** Bytes of a cluster; a source is walked in these. */
  readonly clusterSizeBytes: number;
  /** Bytes of a slot: one or more whole clusters. */
  readonly slotBytes: number;
  begin(backup: BackupDescription): Promise<void>;
  /** Whether a parent is known for the disk, of the same size, so that SAME_AS_PARENT may be used. */
  hasParent(disk: number): boolean;
  /** A slot to fill; all `slotBytes` of it are the caller's until `dump` or `release`. */
  lease(): Promise<Uint8Array>;
  /** Gives a slot back unused. */
  release(slot: Uint8Array): void;
  /**
   * Hands over the clusters from `cluster` on: `bytes` is a leased slot or a leading part of one, made of whole
   * clusters, except for a last cluster of the disk at its true length. Foreign memory is copied first. ZERO stands for
   * one zero cluster. `disk` is the place in `BackupDescription.disks`.
   */
  dump(disk: number, cluster: number, bytes: Uint8Array | typeof ZERO): Promise<void>;
  /** The same for a range that was not read; its cost does not grow with `count`. */
  dumpRange(
    disk: number,
    firstCluster: number,
    count: number,
    content: typeof ZERO | typeof SAME_AS_PARENT,
  ): Promise<void>;
  /**
   * `lease`, read and `dump` in one, done by the sink's own threads, for a device that has a descriptor. Resolves when it
   * is accepted; a read that fails makes the sink fail with the device's own error.
   */
  dumpFrom?(disk: number, cluster: number, lengthBytes: number, device: BlockDevice & { fd: number }): Promise<void>;
  /** Tells the true length of a stream, after its last cluster. */
  endStream(disk: number, sizeBytes: number): Promise<void>;
  finish(): Promise<DumpResult>;
  abort(): Promise<void>;
}

/** Where a sink that makes a file puts its bytes, from front to back. */
export interface SinkOutput {
  /** Of the file; "-" for standard output. */
  readonly name: string;
  /** The bytes are the caller's again once it resolves. One call at a time. */
  write(bytes: Uint8Array): Promise<void>;
  /** Once it resolves, the file is durable and has its name. */
  finish(): Promise<void>;
  /** Leaves nothing behind; what a stream was given stays given. */
  abort(): Promise<void>;
}

/** What a source plugin opens. */
export interface SourceOptions {
  /** Read although another process has it locked. */
  readonly forceShare: boolean;
  /** Ends what is under way, also of the open device, with InterruptedError. */
  readonly signal?: AbortSignal;
}

export interface SourcePlugin {
  readonly kind: string;
  /** Whether the word after `NAME=` is for this plugin. */
  accepts(target: string): boolean;
  /** A read-only device; rejects with a VmarError that names the target. */
  open(target: string, options: SourceOptions): Promise<BlockDevice>;
}

/** A disk of a guest that runs. */
export interface GuestDisk {
  /** As for DiskDescription. */
  readonly name: string;
  readonly sizeBytes: number;
}

export interface GuestSurvey {
  readonly guestName: string | undefined;
  /** 16 bytes. */
  readonly guestUuid: Uint8Array | undefined;
  readonly disks: readonly GuestDisk[];
  /** What of the guest is not backed up, and why. */
  readonly skipped: readonly { readonly name: string; readonly reason: string }[];
  /** What of the guest is in none of its disks. */
  readonly outside: readonly OutsideState[];
  /** What the guest is besides, as far as it can be known; to be kept as a configuration file. */
  readonly facts: { readonly name: string; readonly content: Uint8Array };
}

export interface OutsideState {
  /** `host-tpm`: a TPM that is the host's own, whose state nobody can keep. */
  readonly kind: 'firmware-variables' | 'tpm' | 'host-tpm';
  readonly name: string;
  /** As QEMU names it, where it does. */
  readonly path?: string;
}

/** What a disk's bitmap must be to rest an incremental backup on it, or why there is none. */
export type BitmapWish = { readonly name: string } | { readonly fullReason: string };

export interface SnapshotWish {
  /** Granularity of the bitmaps. */
  readonly clusterSizeBytes: number;
  /** Untold: this backup can be nobody's parent, so it needs no bitmaps. */
  readonly bitmaps?: {
    /** Our own on this guest begin so: none of others is ever touched. */
    readonly prefix: string;
    /** Of the bitmap that will follow this backup; begins with `prefix`. */
    readonly name: string;
    /** By disk. */
    readonly previous: ReadonlyMap<string, BitmapWish>;
  };
  readonly signal?: AbortSignal;
}

/** A disk as it was at one moment. */
export interface SnapshotDisk extends GuestDisk {
  /** May be discarded: what was discarded takes no more space aside, and cannot be read any more. */
  readonly device: BlockDevice;
  /** What changed since the backup that the old bitmap follows. Undefined: all of it is to be read. */
  readonly changes?: (offsetBytes: number, lengthBytes: number) => Promise<readonly DirtyStretch[]>;
  /** Why all is to be read although there was a backup before. */
  readonly fullReason?: string;
  /** The bitmap that follows this backup, if there is one. */
  readonly bitmapName?: string;
}

export interface DirtyStretch {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly dirty: boolean;
}

/**
 * - `done`: the backup is durable. The new bitmaps follow it, the old ones go.
 * - `failed`: it does not exist. The old bitmaps go on, with all that changed meanwhile; the new ones go.
 * - `spoilt`: as failed, and the old bitmaps were of no use: all bitmaps go.
 */
export type SnapshotOutcome = 'done' | 'failed' | 'spoilt';

/** All disks of a guest as they were at one moment. */
export interface GuestSnapshot {
  /** In the order of the survey. */
  readonly disks: readonly SnapshotDisk[];
  readonly consistency: ConsistencyKind;
  /** Why the guest was not frozen, though that was wanted. */
  readonly notFrozen?: string;
  readonly momentMillis: number;
  readonly pausedMicros: number;
  /**
   * Takes everything away that was put into the guest. Rejects, after doing what it can, if that fails; the next survey
   * takes the rest away.
   */
  end(outcome: SnapshotOutcome): Promise<void>;
}

/** A guest that runs. Calls: `survey`, then `snapshot`, once each. */
export interface GuestSource {
  /** Looks what there is. Takes away what a run that died left in the guest; BusyError if another run is at it. */
  survey(): Promise<GuestSurvey>;
  /** If it rejects nothing is left in the guest, as far as could be seen to. */
  snapshot(wish: SnapshotWish): Promise<GuestSnapshot>;
}
