// SPDX-License-Identifier: MIT
// What every command is given besides its own arguments.

import type { ExitStatus } from '../base/errors.js';
import type { Log } from '../base/log.js';
import type { Environment } from './environment.js';
import type { Interrupts } from './interrupts.js';
import type { Output } from './output.js';

/** The options that every command takes. */
export interface GlobalFlags {
  readonly datastore?: string;
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
}

export interface Context {
  /** As typed, for messages: "vmar backup". */
  readonly command: string;
  readonly datastoreDirectory: string | undefined;
  /** It is what --datastore says, not the environment. */
  readonly isDatastoreNamed: boolean;
  /** Of nightly jobs, where the environment names one. */
  readonly configFile: string | undefined;
  readonly cacheDirectory: string;
  readonly temporaryDirectory: string;
  readonly output: Output;
  readonly interrupts: Interrupts;
  readonly log: Log;
}

/** A command's module: its arguments and flags are as the parser gives them, and checked by itself. */
export interface CommandModule<Arguments, Flags> {
  run(context: Context, args: Arguments, flags: Flags): Promise<ExitStatus>;
}

export function createContext(given: {
  readonly command: string;
  readonly globals: GlobalFlags;
  readonly environment: Environment;
  readonly output: Output;
  readonly interrupts: Interrupts;
}): Context {
  const { command, globals, environment, output, interrupts } = given;
  return {
    command,
    datastoreDirectory: (globals.datastore ?? environment.datastoreDirectory) || undefined,
    isDatastoreNamed: Boolean(globals.datastore),
    configFile: environment.configFile,
    cacheDirectory: environment.cacheDirectory,
    temporaryDirectory: environment.temporaryDirectory,
    output,
    interrupts,
    log: {
      info: (message) => output.notice(`${command}: ${message}`),
      warn: (message) => output.error(`${command}: warning: ${message}`),
      debug: (message) => output.debug(`${command}: ${message}`),
    },
  };
}
