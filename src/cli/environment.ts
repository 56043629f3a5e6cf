// SPDX-License-Identifier: MIT
// What the environment says. Nothing else reads it.

import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { ENDS_WITH_INPUT } from '../nightly/ends-with-input.js';

export interface Environment {
  readonly datastoreDirectory: string | undefined;
  /** Of nightly jobs. */
  readonly configFile: string | undefined;
  /** Where caches of datastores lie, each in a directory of its own. */
  readonly cacheDirectory: string;
  /** For sockets and whatever else does not outlive the program. */
  readonly temporaryDirectory: string;
  /** Started by a job, whose end is that of standard input. */
  readonly endsWithInput: boolean;
}

type Variables = Readonly<Record<string, string | undefined>>;

export function readEnvironment(variables: Variables): Environment {
  return {
    datastoreDirectory: given(variables.VMAR_DATASTORE),
    configFile: given(variables.VMAR_CONFIG),
    cacheDirectory: cacheDirectory(variables),
    temporaryDirectory: given(variables.TMPDIR) ?? '/tmp',
    endsWithInput: variables[ENDS_WITH_INPUT] === '1',
  };
}

function cacheDirectory(variables: Variables): string {
  const own = given(variables.VMAR_CACHE_DIR);
  if (own !== undefined) return own;
  if (process.getuid?.() === 0) return '/var/cache/vmar';
  const caches = given(variables.XDG_CACHE_HOME);
  // A relative one is to be ignored, by the XDG specification.
  if (caches !== undefined && isAbsolute(caches)) return join(caches, 'vmar');
  return join(given(variables.HOME) ?? homedir(), '.cache', 'vmar');
}

/** An empty variable is as good as none. */
function given(value: string | undefined): string | undefined {
  return value === '' ? undefined : value;
}
