// SPDX-License-Identifier: MIT
// What a live restore tells while it runs.

export type LiveEvent =
  /** Guests can connect. */
  | { readonly kind: 'listening'; readonly disks: readonly LiveDiskFacts[] }
  | { readonly kind: 'progress'; readonly heldBytes: number; readonly totalBytes: number }
  /** A range of the backup cannot be read; told once. */
  | {
      readonly kind: 'damaged';
      readonly disk: string;
      readonly offsetBytes: number;
      readonly lengthBytes: number;
      readonly problem: string;
    }
  /** The datastore is away: reads of what the target lacks wait. Told again now and then. */
  | { readonly kind: 'stalled'; readonly disk: string; readonly problem: string; readonly seconds: number }
  | { readonly kind: 'going-on'; readonly disk: string; readonly seconds: number }
  /** Filling has stopped: for damage, until the guest overwrites it; for another error, for some seconds or for good. */
  | {
      readonly kind: 'stopped';
      readonly disk: string;
      readonly why: 'damaged' | 'error';
      /** The file or device that it is about, where that is known. */
      readonly object?: string;
      readonly problem: string;
      readonly advice?: string;
      /** It is tried again every few seconds. */
      readonly retrying: boolean;
    }
  /** The disk rests on the backup no more. */
  | { readonly kind: 'filled'; readonly disk: string }
  /** All disks are filled, durably. */
  | { readonly kind: 'done'; readonly seconds: number }
  /** The guest's monitor was reached, and its disks can be moved; told once. */
  | { readonly kind: 'guest'; readonly monitor: string; readonly qemu: string; readonly hasAllocTrack: boolean }
  /** It cannot be moved now; it is served, and that is tried again. Told when it changes, and now and then. */
  | {
      readonly kind: 'not-switched';
      readonly code: string;
      readonly problem: string;
      readonly object?: string;
      readonly expected?: string;
      readonly found?: string;
      readonly advice?: string;
    }
  /** The guest uses the targets themselves, and nothing of ours. */
  | { readonly kind: 'switched'; readonly disks: readonly MovedDisk[]; readonly pausedMicros: number };

export interface MovedDisk {
  readonly disk: string;
  /** The node that the guest uses now; undefined where it was moved before. */
  readonly node: string | undefined;
}

export interface LiveDiskFacts {
  /** Of the export, too. */
  readonly name: string;
  readonly target: string;
  readonly statePath: string;
  readonly sizeBytes: number;
  /** What the target held already. */
  readonly heldBytes: number;
  readonly isResumed: boolean;
  /** The target is longer than the disk by so much. */
  readonly excessBytes: number;
}
