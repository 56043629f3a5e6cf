// SPDX-License-Identifier: MIT
// What the configuration of nightly jobs says, checked and with its links resolved: every datastore that a job names is
// there, and every guest is one of the file or may be found by one of its patterns. docs/JOBS.md tells users of it.

import type { Keep } from '../store/prune-plan.js';
import type { Schedule } from './schedule.js';

export interface NightlyConfig {
  /** Where it was read from. */
  readonly file: string;
  /** By name. */
  readonly datastores: ReadonlyMap<string, DatastoreConfig>;
  /** By name, in the order of the file. */
  readonly guests: ReadonlyMap<string, GuestConfig>;
  /** By name, in the order of the file. The verify schedule of a backup job is a job of its own, NAME-verify. */
  readonly jobs: ReadonlyMap<string, JobConfig>;
  readonly log?: LogConfig;
}

export interface DatastoreConfig {
  readonly name: string;
  /** Absolute. */
  readonly path: string;
  /** 32 hex digits: the datastore that must lie there. */
  readonly uuid?: string;
  /** Jobs that would write begin only while so much is free; 0 is no limit. */
  readonly minFreeBytes: number;
}

/** A guest, or a pattern of guests: then `name` and the paths have one "*", which stands for what the socket's has. */
export interface GuestConfig {
  /** The guest's id, `100`, or with a namespace, `ns/vm/100`. */
  readonly name: string;
  readonly isPattern: boolean;
  readonly source: GuestSource;
  /** Paths of files to keep under their base names. */
  readonly configs: readonly string[];
  /** Files that are no disks, such as EFI variables: path by name. */
  readonly blobs: ReadonlyMap<string, string>;
  /** 0 is no limit. */
  readonly bytesPerSecond: number;
}

export type GuestSource =
  | {
      readonly kind: 'images';
      /** Path or URI by name. */
      readonly disks: ReadonlyMap<string, string>;
      readonly forceShare: boolean;
    }
  | ({ readonly kind: 'qmp'; readonly socket: string } & LiveOptions)
  | ({ readonly kind: 'libvirt'; readonly domain: string } & LiveOptions);

export interface LiveOptions {
  /** The guest agent's socket. */
  readonly agent?: string;
  /** Where the guest puts aside what it changes meanwhile. */
  readonly fleece?: string;
  readonly include: readonly string[];
  readonly exclude: readonly string[];
  readonly paranoid: boolean;
}

export const JOB_KINDS = ['backup', 'verify', 'prune', 'gc', 'copy', 'drill'] as const;
export type JobKind = (typeof JOB_KINDS)[number];

export type JobConfig =
  | BackupJobConfig
  | VerifyJobConfig
  | PruneJobConfig
  | GcJobConfig
  | CopyJobConfig
  | DrillJobConfig;

/** What jobs of all kinds have. */
export interface JobBase {
  readonly name: string;
  /** Undefined: it runs only when told to. */
  readonly schedule?: Schedule;
  readonly hooks: HooksConfig;
  readonly notify: NotifyConfig;
  readonly retry: RetryConfig;
  /** Of one guest, or of one step where there are no guests. Undefined: no limit. */
  readonly timeoutMillis?: number;
}

/** Which guests: names as in `guests`, or patterns with "*" of such names. */
export interface GuestChoice {
  readonly include: readonly string[];
  readonly exclude: readonly string[];
}

export interface BackupJobConfig extends JobBase {
  readonly kind: 'backup';
  readonly datastore: string;
  readonly guests: GuestChoice;
  /** What stays of each guest's backups after a good one. */
  readonly retention?: Keep;
  /** Collect garbage afterwards. */
  readonly gc?: GcOptions;
  /** Guests that are backed up at the same time. */
  readonly parallel: number;
  readonly minFreeBytes: number;
  /** Of zstd. */
  readonly level?: number;
  readonly labels: ReadonlyMap<string, string>;
  /** A guest whose last good backup is older is overdue. Undefined: follows from the schedule. */
  readonly maxAgeMillis?: number;
}

export interface GcOptions {
  /** Percent of what is kept that may stay unused. Undefined: gc's own. */
  readonly maxUnusedPercent?: number;
}

export interface VerifyJobConfig extends JobBase {
  readonly kind: 'verify';
  readonly datastore: string;
  /** Undefined: all, whenever it was read last. */
  readonly olderThanMillis?: number;
  /** Undefined: as long as it takes. */
  readonly budgetMillis?: number;
  readonly quick: boolean;
}

export interface PruneJobConfig extends JobBase {
  readonly kind: 'prune';
  readonly datastore: string;
  /** Of those with backups in the datastore; undefined: all. */
  readonly guests?: readonly string[];
  readonly retention: Keep;
  readonly gc?: GcOptions;
}

export interface GcJobConfig extends JobBase, GcOptions {
  readonly kind: 'gc';
  readonly datastore: string;
}

export interface CopyJobConfig extends JobBase {
  readonly kind: 'copy';
  /** Names of datastores. */
  readonly from: string;
  readonly to: string;
  /** Of those with backups in `from`; undefined: all. */
  readonly guests?: readonly string[];
  readonly minFreeBytes: number;
}

export interface DrillJobConfig extends JobBase {
  readonly kind: 'drill';
  readonly datastore: string;
  /** Those of which the latest backup is tried; undefined: all with backups in the datastore. */
  readonly guests?: readonly string[];
  readonly drill: DrillOptions;
}

/** As `vmar drill` takes them. */
export interface DrillOptions {
  readonly how: { readonly kind: 'fsck'; readonly allowMount: boolean } | ({ readonly kind: 'boot' } & BootOptions);
  /** Empty: all. */
  readonly disks: readonly string[];
  readonly workDirectory?: string;
}

export interface BootOptions {
  /** What must come up on the console. */
  readonly until: string;
  readonly memoryBytes?: number;
  readonly processors?: number;
  readonly bus?: string;
  readonly firmware?: string;
}

/** How often and when something that failed is tried again. */
export interface RetryConfig {
  /** In all; 1: not again. */
  readonly attempts: number;
  readonly delayMillis: number;
}

/** A command: by the shell, or by its words. */
export type CommandConfig =
  | { readonly kind: 'shell'; readonly text: string }
  | { readonly kind: 'words'; readonly words: readonly string[] };

export const HOOK_MOMENTS = ['before-job', 'after-job', 'before-guest', 'after-guest'] as const;
export type HookMoment = (typeof HOOK_MOMENTS)[number];

export interface HooksConfig {
  readonly commands: Partial<Readonly<Record<HookMoment, CommandConfig>>>;
  /** Of each. */
  readonly timeoutMillis: number;
}

export interface NotifyConfig {
  readonly when: 'failure' | 'always' | 'never';
  readonly command?: CommandConfig;
  readonly mail?: MailConfig;
  readonly webhook?: WebhookConfig;
  /** Of each way. */
  readonly timeoutMillis: number;
}

export interface MailConfig {
  readonly to: readonly string[];
  readonly from: string;
  /** The program that takes the mail. */
  readonly sendmail: string;
}

export interface WebhookConfig {
  readonly url: string;
  readonly headers: ReadonlyMap<string, string>;
}

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** Structured: one line of JSON an event. */
export interface LogConfig {
  /** A file, or standard error. */
  readonly to: { readonly kind: 'stderr' } | { readonly kind: 'file'; readonly path: string };
  readonly level: LogLevel;
}
