// SPDX-License-Identifier: MIT
// A QEMU that takes commands, however they get there.

import type { AnswerOf, ArgumentsOf, CommandName } from './commands.js';
import type { QmpEvent } from './events.js';

export interface ExecuteOptions {
  /** After it the command fails with 'qmp-timeout'; it may still take effect. */
  readonly timeoutMillis?: number;
  /** When it aborts the command rejects with InterruptedError; it may still take effect. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Every call settles: with an answer, with QmpCommandError when QEMU refuses, with FailedError 'qmp-lost' when the
 * connection goes away, 'qmp-timeout' when the answer does not come, 'qmp-bad-answer' when it makes no sense.
 */
export interface Monitor {
  /** For messages: the socket's path, or the domain. */
  readonly name: string;
  execute<C extends CommandName>(command: C, given: ArgumentsOf<C>, options?: ExecuteOptions): Promise<AnswerOf<C>>;
  /** Whether events come at all; else `onEvent` is never called. */
  readonly hasEvents: boolean;
  /** Returns what ends the listening. */
  onEvent(listener: (event: QmpEvent) => void): () => void;
  /** Gives the monitor free for others. Commands under way fail with 'qmp-lost'. */
  close(): Promise<void>;
}

/** How to reach one; a value, so that it can be handed to another process. */
export type MonitorAddress =
  | { readonly kind: 'socket'; readonly path: string }
  | { readonly kind: 'libvirt'; readonly domain: string; readonly command?: string };

export const DEFAULT_COMMAND_MILLIS = 30_000;
