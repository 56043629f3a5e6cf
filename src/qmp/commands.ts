// SPDX-License-Identifier: MIT
// The commands that are used, with the types of their arguments and answers. An answer is decoded, never trusted.

import {
  blockGraph,
  blockNodeInfo,
  driveInfo,
  exportInfo,
  guestName,
  guestUuid,
  jobInfo,
  migrationInfo,
  qemuVersion,
  qomMember,
  runStatus,
  schemaNames,
} from './answers.js';
import { anything, type Decoder, list, text } from './decode.js';
import {
  characterDevice,
  cpuInfo,
  iothreadId,
  kvmEnabled,
  memorySize,
  networkCard,
  pciDevices,
  tpmInfo,
} from './fact-answers.js';

export type NoArguments = Readonly<Record<string, never>>;

export interface UnixAddress {
  readonly type: 'unix';
  readonly data: { readonly path: string };
}

/** A file, or a block device of the host. */
export interface FileOptions {
  readonly driver: 'file' | 'host_device';
  readonly filename: string;
}

/** What every node takes. */
export interface ChildOptions {
  readonly discard?: 'ignore' | 'unmap';
  readonly 'detect-zeroes'?: string;
  readonly 'read-only'?: boolean;
  readonly cache?: { readonly direct: boolean; readonly 'no-flush': boolean };
}

interface NodeOptions extends ChildOptions {
  readonly 'node-name': string;
}

export type BlockdevOptions = NodeOptions &
  (
    | FileOptions
    | { readonly driver: 'null-co'; readonly size: number }
    | { readonly driver: 'raw'; readonly file: string | (FileOptions & ChildOptions); readonly size?: number }
    | {
        readonly driver: 'copy-before-write';
        readonly file: string;
        readonly target: string;
        readonly bitmap?: BitmapPlace;
        readonly 'on-cbw-error': 'break-guest-write' | 'break-snapshot';
        /** Seconds; 0 waits for ever. */
        readonly 'cbw-timeout': number;
      }
    | { readonly driver: 'snapshot-access'; readonly file: string }
    | {
        readonly driver: 'nbd';
        readonly server: { readonly type: 'unix'; readonly path: string };
        readonly export: string;
        readonly 'reconnect-delay'?: number;
        readonly 'open-timeout'?: number;
      }
  );

export interface BitmapPlace {
  readonly node: string;
  readonly name: string;
}

export interface BitmapAdd extends BitmapPlace {
  readonly granularity: number;
  readonly persistent: boolean;
  readonly disabled?: boolean;
}

export interface BitmapMerge {
  readonly node: string;
  readonly target: string;
  readonly bitmaps: readonly string[];
}

export type TransactionAction =
  | { readonly type: 'block-dirty-bitmap-add'; readonly data: BitmapAdd }
  | { readonly type: 'block-dirty-bitmap-remove'; readonly data: BitmapPlace }
  | { readonly type: 'block-dirty-bitmap-enable'; readonly data: BitmapPlace }
  | { readonly type: 'block-dirty-bitmap-disable'; readonly data: BitmapPlace }
  | { readonly type: 'block-dirty-bitmap-merge'; readonly data: BitmapMerge };

export interface NbdExportAdd {
  readonly type: 'nbd';
  readonly id: string;
  readonly 'node-name': string;
  readonly name: string;
  readonly writable: boolean;
  readonly bitmaps?: readonly BitmapPlace[];
}

interface Command<Arguments, Answer> {
  readonly decode: Decoder<Answer>;
  /** Never there; carries the type. */
  readonly given?: Arguments;
}

function command<Arguments = NoArguments>(): <Answer>(decode: Decoder<Answer>) => Command<Arguments, Answer> {
  return (decode) => ({ decode });
}

export const COMMANDS = {
  'query-version': command()(qemuVersion),
  'query-qmp-schema': command()(schemaNames),
  'query-status': command()(runStatus),
  'query-migrate': command()(migrationInfo),
  'query-name': command()(guestName),
  'query-uuid': command()(guestUuid),
  'query-kvm': command()(kvmEnabled),
  'query-memory-size-summary': command()(memorySize),
  'query-cpus-fast': command()(list(cpuInfo)),
  'query-pci': command()(pciDevices),
  'query-rx-filter': command()(list(networkCard)),
  'query-chardev': command()(list(characterDevice)),
  'query-tpm': command()(list(tpmInfo)),
  'query-iothreads': command()(list(iothreadId)),
  'query-block': command()(list(driveInfo)),
  'query-named-block-nodes': command<{ readonly flat: boolean }>()(list(blockNodeInfo)),
  'query-block-exports': command()(list(exportInfo)),
  'query-jobs': command()(list(jobInfo)),
  'x-debug-query-block-graph': command()(blockGraph),
  stop: command()(anything),
  cont: command()(anything),
  'qom-list': command<{ readonly path: string }>()(list(qomMember)),
  'qom-get': command<{ readonly path: string; readonly property: string }>()(text),
  'qom-set': command<{ readonly path: string; readonly property: string; readonly value: string }>()(anything),
  'blockdev-add': command<BlockdevOptions>()(anything),
  'blockdev-del': command<{ readonly 'node-name': string }>()(anything),
  'blockdev-reopen': command<{ readonly options: readonly BlockdevOptions[] }>()(anything),
  'x-blockdev-set-iothread': command<{ readonly 'node-name': string; readonly iothread: string }>()(anything),
  transaction: command<{ readonly actions: readonly TransactionAction[] }>()(anything),
  'block-dirty-bitmap-add': command<BitmapAdd>()(anything),
  'block-dirty-bitmap-remove': command<BitmapPlace>()(anything),
  'block-stream': command<{ readonly 'job-id': string; readonly device: string; readonly 'base-node': string }>()(
    anything,
  ),
  'nbd-server-start': command<{ readonly addr: UnixAddress; readonly 'max-connections'?: number }>()(anything),
  'nbd-server-stop': command()(anything),
  'block-export-add': command<NbdExportAdd>()(anything),
  'block-export-del': command<{ readonly id: string; readonly mode: 'safe' | 'hard' }>()(anything),
} as const;

export type CommandName = keyof typeof COMMANDS;
export type ArgumentsOf<C extends CommandName> = NonNullable<(typeof COMMANDS)[C]['given']>;
export type AnswerOf<C extends CommandName> = ReturnType<(typeof COMMANDS)[C]['decode']>;

/** A command as a value: plans are made of these. */
export type Step = { [C in CommandName]: { readonly execute: C; readonly arguments: ArgumentsOf<C> } }[CommandName];
