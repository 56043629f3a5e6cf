// SPDX-License-Identifier: MIT
// What a client shows and demands in TLS: certificates after the layout that QEMU and libnbd use, or a pre-shared key.

import { readFile } from 'node:fs/promises';
import net from 'node:net';
import { join } from 'node:path';
import type { ConnectionOptions } from 'node:tls';
import { FailedError, systemErrorCode } from '../../base/errors.js';
import { readPskFile } from '../tls-psk.js';
import { reason } from './client-errors.js';
import type { NbdAddress, TlsWish } from './nbd-uri.js';

/** Cipher suites with and without forward secrecy; the name does for TLS 1.3 as well. */
const PSK_CIPHERS =
  'ECDHE-PSK-AES256-CBC-SHA384:DHE-PSK-AES256-GCM-SHA384:PSK-AES256-GCM-SHA384:TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256:PSK';

/** Rejects with a FailedError that names the file which is missing or makes no sense. */
export async function tlsConnectOptions(address: NbdAddress): Promise<ConnectionOptions> {
  const wish = address.tls;
  if (wish === undefined) return {};
  const common: ConnectionOptions = { minVersion: 'TLSv1.2', ...naming(wish) };
  return wish.pskFile === undefined
    ? { ...common, ...(await certificates(wish.certificateDirectory)) }
    : { ...common, ...(await preSharedKey(wish.pskFile, wish.userName)) };
}

function naming({ hostName }: TlsWish): ConnectionOptions {
  // Over a Unix socket there is no name to check: whoever holds a certificate of the authority is believed.
  if (hostName === undefined) return { checkServerIdentity: () => undefined };
  return net.isIP(hostName) === 0 ? { servername: hostName } : { host: hostName };
}

async function certificates(directory: string | undefined): Promise<ConnectionOptions> {
  if (directory === undefined) return {};
  const [ca, cert, key] = await Promise.all([
    read(join(directory, 'ca-cert.pem')),
    readIfThere(join(directory, 'client-cert.pem')),
    readIfThere(join(directory, 'client-key.pem')),
  ]);
  return { ca, ...(cert === undefined || key === undefined ? {} : { cert, key }) };
}

async function preSharedKey(file: string, userName: string | undefined): Promise<ConnectionOptions> {
  const keys = await readPskFile(file);
  const [identity, psk] = [...keys].find(([name]) => userName === undefined || name === userName) ?? [];
  if (identity === undefined || psk === undefined) {
    throw new FailedError('tls-unusable', `the file of keys has none for ${userName}`, { object: file });
  }
  return {
    ciphers: PSK_CIPHERS,
    pskCallback: () => ({ psk, identity }),
    // The key says who the server is.
    checkServerIdentity: () => undefined,
  };
}

async function read(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    throw new FailedError('tls-unusable', `a file for TLS cannot be read: ${reason(error)}`, {
      object: path,
      cause: error,
    });
  }
}

async function readIfThere(path: string): Promise<Buffer | undefined> {
  return await read(path).catch((error: FailedError) => {
    if (systemErrorCode(error.cause) === 'ENOENT') return undefined;
    throw error;
  });
}
