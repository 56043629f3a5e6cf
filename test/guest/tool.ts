// SPDX-License-Identifier: MIT
// Programs of the host that build the guest.

import { spawnSync } from 'node:child_process';

export interface ToolOptions {
  readonly cwd?: string;
  readonly stdin?: Uint8Array | string;
  /** Besides 0. */
  readonly allowed?: readonly number[];
}

export interface ToolResult {
  readonly status: number;
  readonly stdout: Buffer;
  /** Standard output and standard error. */
  readonly text: string;
}

const MOST_OUTPUT_BYTES = 1 << 30;

/** Runs it to its end. @throws Error with what it said, if it is missing or its status is none of the allowed */
export function tool(command: string, words: readonly string[], options: ToolOptions = {}): ToolResult {
  const { cwd, stdin, allowed = [] } = options;
  const { error, status, signal, stdout, stderr } = spawnSync(command, words, {
    ...(cwd === undefined ? {} : { cwd }),
    ...(stdin === undefined ? {} : { input: stdin }),
    maxBuffer: MOST_OUTPUT_BYTES,
    // Messages are looked at; file systems' tools are in places that a user's PATH lacks.
    env: {
      ...process.env,
      LC_ALL: 'C',
      PATH: `${process.env.PATH}:/usr/sbin:/sbin`,
      DEBIAN_FRONTEND: 'noninteractive',
    },
  });
  if (error !== undefined) throw new Error(`${command}: ${error.message}`);
  const text = `${stdout}${stderr}`;
  if (status === null || !(status === 0 || allowed.includes(status))) {
    throw new Error(`${command} ${words.join(' ')}: ${signal ?? `exit ${status}`}: ${text.slice(-4000)}`);
  }
  return { status, stdout, text };
}
