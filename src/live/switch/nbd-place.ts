// SPDX-License-Identifier: MIT
// Which export a QEMU node of driver nbd is connected to, by the file name that QEMU gives it.

import { realpath } from 'node:fs/promises';
import { resolve } from 'node:path';

export interface NbdPlace {
  readonly socketPath: string;
  /** "" for the default export. */
  readonly exportName: string;
}

/** Undefined for one over the network, and for what cannot be read. */
export function parseNbdFileName(fileName: string): NbdPlace | undefined {
  if (fileName.startsWith('json:')) return fromJson(fileName.slice('json:'.length));
  const found = /^nbd\+unix:\/\/(?:\/(?<name>.*))?\?socket=(?<path>.+)$/s.exec(fileName)?.groups;
  // QEMU writes both as they are.
  return found?.path === undefined ? undefined : { socketPath: found.path, exportName: found.name ?? '' };
}

function fromJson(text: string): NbdPlace | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null) return undefined;
    const options = value as Record<string, unknown>;
    const socketPath = options['server.path'];
    const exportName = options.export ?? '';
    if (typeof socketPath !== 'string' || typeof exportName !== 'string') return undefined;
    return { socketPath, exportName };
  } catch {
    return undefined;
  }
}

/** Whether two paths lead to one place, whatever links there are on the way. */
export async function isSamePath(a: string, b: string): Promise<boolean> {
  if (resolve(a) === resolve(b)) return true;
  const [one, other] = await Promise.all([a, b].map((path) => realpath(path).catch(() => undefined)));
  return one !== undefined && one === other;
}
