// SPDX-License-Identifier: MIT
// What goes wrong with an NBD server, in words. Each error names the URI.

import { type ErrorFacts, FailedError, systemErrorCode } from '../../base/errors.js';
import { malformed } from '../protocol/byte-reader.js';
import { WIRE_ERROR } from '../protocol/constants.js';
import { wireErrorName } from '../protocol/wire-errors.js';

/** The connection is gone, or could not be made; another one may do. Everything else is for good. */
export class LostConnection extends FailedError {
  constructor(
    code: string,
    sentence: string,
    readonly why: string,
    facts: ErrorFacts,
  ) {
    super(code, `${sentence}: ${why}`, facts);
  }
}

/** The server broke the protocol: whatever it says from now on is not to be believed. */
export function brokenProtocol(uri: string, what: string): FailedError {
  return malformed(what, uri);
}

/** Gives an error of a decoder the name of the server. */
export function named(uri: string, error: unknown): unknown {
  if (!(error instanceof FailedError) || error.object !== undefined) return error;
  return new FailedError(error.code, error.message, {
    object: uri,
    ...(error.advice === undefined ? {} : { advice: error.advice }),
    cause: error,
  });
}

const CONNECT_FAILURES: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such socket',
  ECONNREFUSED: 'nobody listens there',
  EACCES: 'permission denied',
  ENOTFOUND: 'the host is not known',
  EAI_AGAIN: 'the name of the host could not be looked up',
};

export function connectFailed(uri: string, error: unknown): LostConnection {
  const why = CONNECT_FAILURES[systemErrorCode(error) ?? ''] ?? reason(error);
  return new LostConnection('nbd-unreachable', 'the NBD server cannot be reached', why, {
    object: uri,
    advice: 'Make sure that the server runs, and that the address is right.',
    cause: error,
  });
}

export function connectionLost(uri: string, why: string, cause?: unknown): LostConnection {
  return new LostConnection('nbd-lost', 'the connection to the NBD server was lost', why, {
    object: uri,
    ...(cause === undefined ? {} : { cause }),
  });
}

/** The connection stands, but nothing comes: each try costs a whole time-out. */
export function fellSilent(uri: string, seconds: number): LostConnection {
  const sentence = 'the connection to the NBD server was given up';
  return new LostConnection('nbd-silent', sentence, `no answer within ${seconds} seconds`, { object: uri });
}

/** What is told when trying again has not helped. */
export function givenUp(uri: string, seconds: number, last: unknown): FailedError {
  const tried = seconds > 0 ? `, and was not to be had again within ${seconds} seconds` : '';
  const why = last instanceof LostConnection ? last.why : reason(last);
  return new FailedError('nbd-lost', `the connection to the NBD server was lost${tried}: ${why}`, {
    object: uri,
    advice: 'Look why the server ended or cannot be reached, then start again.',
    cause: last,
  });
}

/** The server refused or failed one request; the connection goes on. */
export function requestFailed(
  uri: string,
  what: 'reading' | 'writing' | 'flushing' | 'asking for the block status',
  request: { readonly offsetBytes: number },
  wireError: number,
  message: string,
): FailedError {
  const code = wireError === WIRE_ERROR.ENOSPC ? 'no-space' : CODES[what];
  const said = message === '' ? '' : ` (${message})`;
  return new FailedError(code, `${what} failed: the NBD server says ${wireErrorName(wireError)}${said}`, {
    object: uri,
    ...(what === 'flushing' ? {} : { offsetBytes: request.offsetBytes }),
    advice: wireError === WIRE_ERROR.ENOSPC ? 'Make room on the target.' : "Look in the server's log for the cause.",
  });
}

const CODES = {
  reading: 'read-failed',
  writing: 'write-failed',
  flushing: 'flush-failed',
  'asking for the block status': 'read-failed',
} as const;

export function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
