// SPDX-License-Identifier: MIT
// TLS for the server: certificates, or keys shared beforehand.

import { readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { createServer, type TlsOptions as NodeTlsOptions } from 'node:tls';
import { FailedError } from '../base/errors.js';
import { readPskFile } from './tls-psk.js';

export type TlsOptions =
  | {
      readonly kind: 'certificate';
      /** PEM files. */
      readonly certificatePath: string;
      readonly keyPath: string;
      /** Where it is given, clients must show a certificate of this authority. */
      readonly clientAuthorityPath?: string;
    }
  | {
      readonly kind: 'psk';
      /** Lines of NAME:HEXKEY, as psktool writes them. */
      readonly path: string;
    };

/** TLS 1.2 needs ciphers for shared keys to be named; 1.3 takes them with any of its own of SHA-256. */
const PSK_CIPHERS =
  'TLS_AES_128_GCM_SHA256:ECDHE-PSK-CHACHA20-POLY1305:DHE-PSK-AES256-GCM-SHA384:PSK-AES256-GCM-SHA384:PSK-AES128-GCM-SHA256';

/** Reads the files; rejects with FailedError 'tls-unusable' where TLS could not work with them. */
export async function prepareTls(options: TlsOptions): Promise<(socket: Socket) => Promise<Socket>> {
  const settings = options.kind === 'psk' ? await pskSettings(options.path) : await certificateSettings(options);
  try {
    // What OpenSSL does not like of a certificate or key it says here, not when the first client comes.
    createServer(settings);
  } catch (error) {
    throw unusable(options.kind === 'psk' ? options.path : options.certificatePath, error);
  }
  return (socket) => secure(socket, settings);
}

async function certificateSettings(options: TlsOptions & { kind: 'certificate' }): Promise<NodeTlsOptions> {
  const { certificatePath, keyPath, clientAuthorityPath } = options;
  const settings: NodeTlsOptions = {
    minVersion: 'TLSv1.2',
    cert: await readPem(certificatePath),
    key: await readPem(keyPath),
  };
  if (clientAuthorityPath === undefined) return settings;
  return { ...settings, ca: await readPem(clientAuthorityPath), requestCert: true, rejectUnauthorized: true };
}

async function pskSettings(path: string): Promise<NodeTlsOptions> {
  const keys = await readPskFile(path);
  return {
    minVersion: 'TLSv1.2',
    ciphers: PSK_CIPHERS,
    pskCallback: (_socket, identity) => keys.get(identity) ?? null,
  };
}

async function readPem(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    throw unusable(path, error);
  }
}

/**
 * Makes TLS of a plain connection. A TLS server of its own, which never listens, does it: that is Node's public way to
 * have the client's certificate checked on a connection that is there already.
 */
function secure(socket: Socket, settings: NodeTlsOptions): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const server = createServer({ ...settings, allowHalfOpen: true });
    server.once('secureConnection', resolve);
    server.once('tlsClientError', reject);
    socket.once('close', () => reject(new Error('the client hung up')));
    server.emit('connection', socket);
  });
}

function unusable(path: string, error: unknown): FailedError {
  const reason = error instanceof Error ? error.message : String(error);
  return new FailedError('tls-unusable', `TLS cannot be set up with this file: ${reason}`, {
    object: path,
    cause: error,
  });
}
