// SPDX-License-Identifier: MIT
// Listening on a network address that was named. Without TLS everyone who reaches it reads and writes the disks, so
// that only this machine's own addresses are taken for it, unless it is forced.

import { lookup } from 'node:dns/promises';
import { type AddressInfo, BlockList, isIPv6, type Server } from 'node:net';
import { BugError, FailedError, UsageError } from '../../base/errors.js';

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');
LOOPBACK.addSubnet('::ffff:127.0.0.0', 104, 'ipv6');

/** Whether only this machine reaches the address. */
export function isLoopback(address: string): boolean {
  return LOOPBACK.check(address, isIPv6(address) ? 'ipv6' : 'ipv4');
}

/**
 * Listens at host and port (0: any free one) and says where. Rejects with UsageError 'plain-refused' where others could
 * reach it without TLS, unless `allowPlain`.
 */
export async function listenOnAddress(
  server: Server,
  host: string,
  port: number,
  { hasTls, allowPlain }: { readonly hasTls: boolean; readonly allowPlain: boolean },
): Promise<AddressInfo> {
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    throw new UsageError('bad-port', `${port} is not a port`, { object: host, expected: '0 to 65535' });
  }
  if (host === '') throw new UsageError('no-address', 'name the address to listen on');
  const address = await resolve(host);
  if (!hasTls && !allowPlain && !isLoopback(address)) {
    throw new UsageError('plain-refused', 'without TLS everyone who reaches it could use the disks', {
      object: host,
      advice: 'Configure TLS, listen on 127.0.0.1 or on a Unix socket.',
    });
  }
  await listen(server, address, port);
  const bound = server.address();
  if (bound === null || typeof bound === 'string') throw new BugError('a network server without an address');
  return bound;
}

async function resolve(host: string): Promise<string> {
  try {
    return (await lookup(host)).address;
  } catch (error) {
    throw new FailedError('cannot-listen', 'there is no such address', { object: host, cause: error });
  }
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (error: Error) => {
      const message = `cannot listen at port ${port}: ${error.message}`;
      reject(new FailedError('cannot-listen', message, { object: host, cause: error }));
    };
    server.once('error', failed);
    server.listen({ host, port }, () => {
      server.off('error', failed);
      resolve();
    });
  });
}
