// SPDX-License-Identifier: MIT
// Where a command offers disks over NBD, as its flags ask for it, and the URIs that lead there.

import { resolve } from 'node:path';
import { UsageError } from '../base/errors.js';
import type { TlsOptions } from '../nbd/tls-server.js';

export interface ListenFlags {
  readonly socket?: string;
  readonly listen?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tlsCa?: string;
  readonly tlsPsk?: string;
  readonly allowPlain?: boolean;
}

export interface TcpWish {
  readonly host: string;
  readonly port: number;
  readonly tls: TlsOptions | undefined;
  readonly allowPlain: boolean;
}

/** One of the two at least. */
export interface ListenWish {
  /** Absolute. */
  readonly socketPath: string | undefined;
  readonly tcp: TcpWish | undefined;
}

const NBD_PORT = 10809;
/** HOST:PORT, or a host alone; an IPv6 address in brackets. */
const ADDRESS = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/;

export function parseListen(flags: ListenFlags): ListenWish {
  if (flags.socket === '') throw new UsageError('no-socket', 'the path of the socket is empty', { object: '--socket' });
  if (flags.socket === undefined && flags.listen === undefined) {
    throw new UsageError('no-socket', 'nothing says where to listen', {
      advice: 'Give --socket PATH, or --listen ADDRESS:PORT for the network.',
    });
  }
  const tls = parseTls(flags);
  if (flags.listen === undefined && (tls !== undefined || flags.allowPlain === true)) {
    throw new UsageError('needs-listen', 'TLS and --allow-plain are for --listen only', {
      advice: 'A socket in the file system is protected by its permissions.',
    });
  }
  return {
    socketPath: flags.socket === undefined ? undefined : resolve(flags.socket),
    tcp:
      flags.listen === undefined
        ? undefined
        : { ...parseAddress(flags.listen), tls, allowPlain: flags.allowPlain === true },
  };
}

function parseAddress(text: string): { host: string; port: number } {
  const match = ADDRESS.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = match?.[3] === undefined ? NBD_PORT : Number(match[3]);
  if (host !== undefined && port <= 65535) return { host, port };
  throw new UsageError('bad-address', 'this is not an address to listen on', {
    object: `--listen ${text}`,
    expected: 'ADDRESS:PORT, an IPv6 address in brackets',
  });
}

function parseTls({ tlsCert, tlsKey, tlsCa, tlsPsk }: ListenFlags): TlsOptions | undefined {
  if (tlsPsk !== undefined) {
    if (tlsCert === undefined && tlsKey === undefined && tlsCa === undefined) return { kind: 'psk', path: tlsPsk };
    throw new UsageError('two-kinds-of-tls', 'certificates and shared keys exclude each other', {
      object: '--tls-psk',
    });
  }
  if (tlsCert === undefined && tlsKey === undefined && tlsCa === undefined) return undefined;
  if (tlsCert === undefined || tlsKey === undefined) {
    throw new UsageError('half-of-tls', 'a certificate goes with its key', {
      advice: 'Give both --tls-cert FILE and --tls-key FILE.',
    });
  }
  const authority = tlsCa === undefined ? {} : { clientAuthorityPath: tlsCa };
  return { kind: 'certificate', certificatePath: tlsCert, keyPath: tlsKey, ...authority };
}

/** The URI of an export on a socket, as libnbd, QEMU and we take it. */
export function socketUri(path: string, exportName: string): string {
  return `nbd+unix:///${encodeURIComponent(exportName)}?socket=${encodeURIComponent(path).replaceAll('%2F', '/')}`;
}

/** What is known once it listens. */
export interface TcpPlace {
  readonly port: number;
  /** A name in the file of shared keys: a client says whose key it has. */
  readonly user: string | undefined;
}

/** The URI of an export on the network. */
export function tcpUri({ host, tls }: TcpWish, { port, user }: TcpPlace, exportName: string): string {
  const who = user === undefined ? '' : `${encodeURIComponent(user)}@`;
  const place = `${who}${host.includes(':') ? `[${host}]` : host}:${port}`;
  const keys =
    tls?.kind === 'psk' ? `?tls-psk-file=${encodeURIComponent(resolve(tls.path)).replaceAll('%2F', '/')}` : '';
  return `${tls === undefined ? 'nbd' : 'nbds'}://${place}/${encodeURIComponent(exportName)}${keys}`;
}
