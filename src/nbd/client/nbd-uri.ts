// SPDX-License-Identifier: MIT
// NBD URIs, after the document "NBD URI specification":
// nbd[s]://[USER@]HOST[:PORT]/EXPORT and nbd[s]+unix:///EXPORT?socket=PATH.

import { UsageError } from '../../base/errors.js';
import { MOST_STRING_BYTES } from '../protocol/constants.js';

const DEFAULT_PORT = 10809;
const SCHEMES = /^(nbds?)(\+unix)?:\/\//;
/** What a socket address of Linux holds. */
const MOST_SOCKET_PATH_BYTES = 107;

export interface NbdAddress {
  /** As the user wrote it, or whatever the user knows it as; for messages. */
  readonly uri: string;
  readonly exportName: string;
  readonly transport:
    | { readonly kind: 'unix'; readonly path: string }
    | { readonly kind: 'tcp'; readonly host: string; readonly port: number };
  /** Undefined: no TLS at all. */
  readonly tls: TlsWish | undefined;
}

export interface TlsWish {
  /** A directory with ca-cert.pem and, for a client that shows who it is, client-cert.pem and client-key.pem. */
  readonly certificateDirectory: string | undefined;
  /** A file of lines USER:HEXKEY. */
  readonly pskFile: string | undefined;
  readonly userName: string | undefined;
  /** The name that the server's certificate is checked for; undefined on a Unix socket: the name is not checked. */
  readonly hostName: string | undefined;
}

const PARAMETERS = new Set(['socket', 'tls-certificates', 'tls-psk-file', 'tls-hostname', 'tls-username']);

export function isNbdUri(text: string): boolean {
  return SCHEMES.test(text);
}

/** @throws UsageError 'bad-uri' that says what is wrong. */
export function parseNbdUri(uri: string): NbdAddress {
  const scheme = SCHEMES.exec(uri);
  if (scheme === null) throw bad(uri, 'it does not begin with nbd://, nbds://, nbd+unix:// or nbds+unix://');
  const isUnix = scheme[2] !== undefined;
  const { authority, path, parameters } = split(uri, uri.slice(scheme[0].length));
  const exportName = decode(uri, path);
  if (Buffer.byteLength(exportName) > MOST_STRING_BYTES) throw bad(uri, 'the name of the export is too long');
  const userName = authority.user === '' ? undefined : decode(uri, authority.user);
  const transport = isUnix ? unixTransport(uri, authority, parameters) : tcpTransport(uri, authority, parameters);
  if (scheme[1] === 'nbd') {
    const tlsParameter = [...parameters.keys()].find((key) => key.startsWith('tls-'));
    if (tlsParameter !== undefined) throw bad(uri, `${tlsParameter} makes sense only with nbds`);
    return { uri, exportName, transport, tls: undefined };
  }
  const host = transport.kind === 'tcp' ? transport.host : undefined;
  const tls: TlsWish = {
    certificateDirectory: parameters.get('tls-certificates'),
    pskFile: parameters.get('tls-psk-file'),
    userName: parameters.get('tls-username') ?? userName,
    hostName: parameters.get('tls-hostname') ?? host,
  };
  return { uri, exportName, transport, tls };
}

interface Authority {
  readonly user: string;
  readonly host: string;
  readonly port: string;
}

/** Not by the URL class: it would take "." and ".." out of export names. */
function split(
  uri: string,
  rest: string,
): { authority: Authority; path: string; parameters: ReadonlyMap<string, string> } {
  if (rest.includes('#')) throw bad(uri, 'a "#" must be written as %23');
  const question = rest.indexOf('?');
  const before = question < 0 ? rest : rest.slice(0, question);
  const slash = before.indexOf('/');
  const authorityText = slash < 0 ? before : before.slice(0, slash);
  const path = slash < 0 ? '' : before.slice(slash + 1);
  const found = /^(?:([^@]*)@)?(\[[0-9A-Fa-f:.%]+\]|[^:@[\]]*)(?::(\d*))?$/.exec(authorityText);
  if (found === null) throw bad(uri, 'what stands between // and / is not HOST or HOST:PORT');
  const authority = { user: found[1] ?? '', host: found[2] ?? '', port: found[3] ?? '' };
  return { authority, path, parameters: parseParameters(uri, question < 0 ? '' : rest.slice(question + 1)) };
}

function parseParameters(uri: string, query: string): ReadonlyMap<string, string> {
  const parameters = new Map<string, string>();
  for (const piece of query.split('&')) {
    if (piece === '') continue;
    const cut = piece.indexOf('=');
    const key = cut < 0 ? piece : piece.slice(0, cut);
    if (!PARAMETERS.has(key)) throw bad(uri, `the parameter ${key} is not known`);
    if (parameters.has(key)) throw bad(uri, `the parameter ${key} is given twice`);
    const value = cut < 0 ? '' : decode(uri, piece.slice(cut + 1));
    if (value === '') throw bad(uri, `the parameter ${key} is empty`);
    parameters.set(key, value);
  }
  return parameters;
}

function unixTransport(uri: string, authority: Authority, parameters: ReadonlyMap<string, string>) {
  if (authority.host !== '' || authority.port !== '') throw bad(uri, 'a Unix socket has no host: write three slashes');
  const path = parameters.get('socket');
  if (path === undefined) throw bad(uri, '?socket=PATH is missing');
  if (Buffer.byteLength(path) > MOST_SOCKET_PATH_BYTES) throw bad(uri, 'the path of the socket is too long');
  return { kind: 'unix' as const, path };
}

function tcpTransport(uri: string, authority: Authority, parameters: ReadonlyMap<string, string>) {
  if (parameters.has('socket')) throw bad(uri, 'a socket makes sense only with nbd+unix or nbds+unix');
  const host = authority.host === '' ? 'localhost' : authority.host.replace(/^\[|\]$/g, '');
  const port = authority.port === '' ? DEFAULT_PORT : Number(authority.port);
  if (!(port >= 1 && port <= 65535)) throw bad(uri, 'this is not the number of a port');
  return { kind: 'tcp' as const, host, port };
}

function decode(uri: string, text: string): string {
  let decoded: string;
  try {
    decoded = decodeURIComponent(text);
  } catch {
    throw bad(uri, 'a "%" is not followed by two hexadecimal digits of UTF-8');
  }
  if (decoded.includes('\0')) throw bad(uri, 'a NUL stands in it');
  return decoded;
}

function bad(uri: string, problem: string): UsageError {
  return new UsageError('bad-uri', `this is not an NBD URI: ${problem}`, {
    object: uri,
    expected: 'nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH',
  });
}
