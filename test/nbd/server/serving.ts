// SPDX-License-Identifier: MIT
// A server over memory or a file on a socket of its own, and programs that talk to it.

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { afterEach } from 'vitest';
import type { BlockDevice } from '#vmar/src/block/device.js';
import type { NbdExport } from '#vmar/src/nbd/server/nbd-export.js';
import { NbdServer, type NbdServerOptions } from '#vmar/src/nbd/server/nbd-server.js';
import { scratchDirectory } from '../../base/scratch.js';

export interface Served {
  readonly server: NbdServer;
  readonly socketPath: string;
  /** nbd+unix URI of an export. */
  uri(exportName?: string): string;
}

/** For one test file: servers that are closed after each test, devices too. */
export function serving(): {
  readonly directory: string;
  serve(
    exports: BlockDevice | readonly NbdExport[],
    options?: Omit<NbdServerOptions, 'exports'> & { readonly readOnly?: boolean },
  ): Promise<Served>;
} {
  const directory = scratchDirectory();
  const running: { server: NbdServer; devices: BlockDevice[] }[] = [];
  let count = 0;
  afterEach(async () => {
    for (const { server, devices } of running.splice(0)) {
      await server.close({ graceMillis: 100 });
      for (const device of devices) await device.close();
    }
  });
  return {
    directory,
    async serve(what, { readOnly = false, ...options } = {}) {
      const exports = isExports(what) ? what : [{ name: '', device: what, readOnly }];
      const server = new NbdServer({ exports, ...options });
      const socketPath = join(directory, `socket-${count++}`);
      running.push({ server, devices: exports.map(({ device }) => device) });
      await server.listenUnix(socketPath);
      return { server, socketPath, uri: (name = '') => `nbd+unix:///${name}?socket=${socketPath}` };
    },
  };
}

function isExports(what: BlockDevice | readonly NbdExport[]): what is readonly NbdExport[] {
  return Array.isArray(what);
}

export interface Ran {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end, while this process goes on serving. */
export function run(command: string, args: readonly string[]): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(command, args, { maxBuffer: 1 << 26, timeout: 50_000 }, (error, stdout, stderr) => {
      const status = error === null ? 0 : typeof error.code === 'number' ? error.code : 255;
      resolve({ status, stdout, stderr });
    });
  });
}
