// SPDX-License-Identifier: MIT
// What a client can ask of the server, at most.

import { UsageError } from '../../base/errors.js';
import { DEFAULT_MOST_PAYLOAD_BYTES } from '../protocol/constants.js';

export interface NbdLimits {
  /** Clients at one time, those in the handshake included; more are turned away. */
  readonly connections: number;
  /** From the first byte to the choice of an export. */
  readonly handshakeMillis: number;
  /** Data of one option; longer ones are skipped and answered with TOO_BIG. */
  readonly optionBytes: number;
  /** Options of one client before it chooses an export. */
  readonly options: number;
  /** One READ or WRITE. */
  readonly payloadBytes: number;
  /** Requests of one client that are not answered yet; the server reads no more of its requests meanwhile. */
  readonly requestsPerConnection: number;
  /** Memory for requests and replies of one client. */
  readonly bytesPerConnection: number;
  /** Memory for requests and replies of all. */
  readonly bytesPerServer: number;
  /** Extents of one context in the answer to one BLOCK_STATUS. */
  readonly statusExtents: number;
  /** A client that neither reads nor writes for so long loses its connection if others wait for the memory it holds. */
  readonly stallMillis: number;
}

const MIB = 1 << 20;

export const DEFAULT_LIMITS: NbdLimits = {
  connections: 128,
  handshakeMillis: 30_000,
  optionBytes: 64 << 10,
  options: 1024,
  payloadBytes: DEFAULT_MOST_PAYLOAD_BYTES,
  requestsPerConnection: 128,
  bytesPerConnection: 64 * MIB,
  bytesPerServer: 256 * MIB,
  statusExtents: 8192,
  stallMillis: 30_000,
};

/** The defaults where nothing else is asked for; throws UsageError for limits under which no request could pass. */
export function chooseLimits(asked: Partial<NbdLimits> = {}): NbdLimits {
  const limits = { ...DEFAULT_LIMITS, ...asked };
  const wrong = Object.entries(limits).find(([, value]) => !Number.isSafeInteger(value) || value < 1);
  if (wrong) throw new UsageError('bad-limit', `the limit "${wrong[0]}" cannot be ${wrong[1]}`);
  if (limits.payloadBytes > Math.min(limits.bytesPerConnection, limits.bytesPerServer)) {
    throw new UsageError('bad-limit', 'one request may be larger than all requests together');
  }
  return limits;
}
