// SPDX-License-Identifier: MIT
// Opens an export of an NBD server.

import { type Clock, REAL_CLOCK } from '../../base/clock.js';
import { FailedError } from '../../base/errors.js';
import { type Log, SILENT } from '../../base/log.js';
import { TRANSMISSION_FLAG } from '../protocol/constants.js';
import { ConnectionPool } from './connection-pool.js';
import { NbdDevice } from './nbd-device.js';
import { parseNbdUri } from './nbd-uri.js';

export { NbdDevice } from './nbd-device.js';
export { isNbdUri } from './nbd-uri.js';

export interface NbdDeviceOptions {
  readonly readOnly: boolean;
  /** At most; more than one only where the server keeps them in step. 4 for reading, else 1. */
  readonly connections?: number;
  /** What messages call it; the URI if untold. */
  readonly name?: string;
  /** A dirty bitmap to ask for; see `NbdDevice.dirtyStatus`. */
  readonly bitmap?: string;
  /**
   * Asks for the bitmap and for nothing else: `blockStatus` knows of no holes then. An export that can be read only where
   * its bitmap is dirty refuses to tell about anything else where that is clean.
   */
  readonly bitmapAlone?: boolean;
  /** Ends everything that is under way, also of the open device, with InterruptedError. */
  readonly signal?: AbortSignal;
  readonly log?: Log;
  readonly clock?: Clock;
  /** How long a server may keep silent while an answer is due. */
  readonly timeoutMillis?: number;
  /** How long a server that has gone is waited for. 0: not at all. */
  readonly reconnectMillis?: number;
}

const READING_CONNECTIONS = 4;
const TIMEOUT_MILLIS = 60_000;
const RECONNECT_MILLIS = 30_000;

/**
 * Rejects with UsageError for what is not a URI, with FailedError where the server cannot be reached, refuses, breaks the
 * protocol, or allows reading only and writing is wanted.
 */
export async function openNbdDevice(uri: string, options: NbdDeviceOptions): Promise<NbdDevice> {
  const name = options.name ?? uri;
  const address = { ...parseNbdUri(uri), uri: name };
  const { readOnly, signal } = options;
  const bitmap =
    options.bitmap === undefined ? undefined : { name: options.bitmap, alone: options.bitmapAlone === true };
  const pool = await ConnectionPool.open(address, {
    ...{ bitmap, signal },
    connections: options.connections ?? (readOnly ? READING_CONNECTIONS : 1),
    log: options.log ?? SILENT,
    clock: options.clock ?? REAL_CLOCK,
    timeoutMillis: options.timeoutMillis ?? TIMEOUT_MILLIS,
    reconnectMillis: options.reconnectMillis ?? RECONNECT_MILLIS,
  });
  if (!readOnly && (pool.terms.flags & TRANSMISSION_FLAG.readOnly) !== 0) {
    pool.close();
    throw new FailedError('read-only-export', 'the NBD server allows reading only', {
      object: name,
      advice: 'Export it for writing.',
    });
  }
  return new NbdDevice(name, readOnly, pool);
}
