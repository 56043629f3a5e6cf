// SPDX-License-Identifier: MIT
// The haggling over options, as a machine without a socket: an option goes in, what to send and to do comes out.

import { FailedError } from '../../base/errors.js';
import { INFO, OPTION, OPTION_REPLY, OPTION_REPLY_ERROR } from '../protocol/constants.js';
import { encodeExportNameReply, encodeOptionReply } from '../protocol/handshake.js';
import {
  decodeInfoRequest,
  decodeMetaContextRequest,
  encodeInformation,
  encodeListedExport,
  encodeMetaContext,
  type Information,
} from '../protocol/option-data.js';
import type { NbdLimits } from './limits.js';
import { type Context, contextsOf, findExport, type NbdExport, queryMatches, transmissionFlags } from './nbd-export.js';

/** What was agreed on when the transmission begins. */
export interface Agreement {
  readonly export: NbdExport;
  readonly structured: boolean;
  /** Selected with SET_META_CONTEXT; a context's id is its place, counted from 1. */
  readonly contexts: readonly Context[];
}

export type Outcome =
  | { readonly next: 'option'; readonly send: readonly Buffer[] }
  | { readonly next: 'tls'; readonly send: readonly Buffer[] }
  | { readonly next: 'transmission'; readonly send: readonly Buffer[]; readonly agreement: Agreement }
  /** Sends, then closes. */
  | { readonly next: 'close'; readonly send: readonly Buffer[]; readonly reason?: string };

/** What TLS is on this listener; on a secured connection it is 'done'. */
export type TlsState = 'none' | 'required' | 'done';

export interface NegotiationOptions {
  readonly exports: readonly NbdExport[];
  readonly limits: NbdLimits;
  readonly tls: TlsState;
  /** Both sides agreed to leave the zeros after EXPORT_NAME away. */
  readonly noZeroes: boolean;
}

export class Negotiation {
  readonly #exports: readonly NbdExport[];
  readonly #limits: NbdLimits;
  readonly #tls: TlsState;
  readonly #noZeroes: boolean;
  #structured = false;
  #selected: { readonly export: NbdExport; readonly contexts: readonly Context[] } | undefined;

  constructor({ exports, limits, tls, noZeroes }: NegotiationOptions) {
    this.#exports = exports;
    this.#limits = limits;
    this.#tls = tls;
    this.#noZeroes = noZeroes;
  }

  /** The answer to one option. Whatever a client sends gets one; only EXPORT_NAME can but succeed or end it all. */
  option(option: number, data: Buffer): Outcome {
    if (this.#tls === 'required' && option !== OPTION.startTls && option !== OPTION.abort) {
      if (option === OPTION.exportName) return { next: 'close', send: [], reason: 'it did not start TLS' };
      return refuse(option, OPTION_REPLY.errTlsRequired, 'start TLS first');
    }
    try {
      return this.#known(option, data);
    } catch (error) {
      if (!(error instanceof FailedError && error.code === 'nbd-protocol')) throw error;
      if (option === OPTION.exportName) return { next: 'close', send: [], reason: error.message };
      return refuse(option, OPTION_REPLY.errInvalid, error.message);
    }
  }

  /** The answer to an option whose data are longer than the limit; they have been skipped. */
  tooLong(option: number): Outcome {
    if (option === OPTION.exportName) return { next: 'close', send: [], reason: 'the name is too long' };
    return refuse(option, OPTION_REPLY.errTooBig, `at most ${this.#limits.optionBytes} bytes`);
  }

  #known(option: number, data: Buffer): Outcome {
    switch (option) {
      case OPTION.exportName:
        return this.#exportName(data);
      case OPTION.abort:
        return { next: 'close', send: [encodeOptionReply(option, OPTION_REPLY.ack)] };
      case OPTION.list:
        return data.length > 0 ? unexpectedData(option) : this.#list();
      case OPTION.startTls:
        return this.#startTls(data);
      case OPTION.info:
      case OPTION.go:
        return this.#info(option, data);
      case OPTION.structuredReply:
        if (data.length > 0) return unexpectedData(option);
        this.#structured = true;
        return accept(option);
      case OPTION.listMetaContext:
      case OPTION.setMetaContext:
        return this.#metaContext(option, data);
      default:
        return refuse(option, OPTION_REPLY.errUnsupported, 'this option is not known here');
    }
  }

  #exportName(data: Buffer): Outcome {
    // The name is all there is, and a wrong one can only be answered by hanging up.
    const entry = findExport(this.#exports, data.toString('utf8'));
    if (entry === undefined) return { next: 'close', send: [], reason: 'there is no such export' };
    const size = { sizeBytes: entry.device.lengthBytes, transmissionFlags: transmissionFlags(entry, this.#structured) };
    return {
      next: 'transmission',
      send: [encodeExportNameReply(size, this.#noZeroes)],
      agreement: this.#agreement(entry),
    };
  }

  #list(): Outcome {
    const listed = this.#exports.map(({ name, description = '' }) =>
      encodeOptionReply(OPTION.list, OPTION_REPLY.server, encodeListedExport({ name, description })),
    );
    return accept(OPTION.list, listed);
  }

  #startTls(data: Buffer): Outcome {
    const option = OPTION.startTls;
    if (data.length > 0) return unexpectedData(option);
    if (this.#tls === 'none') return refuse(option, OPTION_REPLY.errPolicy, 'TLS is not configured here');
    if (this.#tls === 'done') return refuse(option, OPTION_REPLY.errInvalid, 'TLS is on already');
    return { next: 'tls', send: [encodeOptionReply(option, OPTION_REPLY.ack)] };
  }

  #info(option: number, data: Buffer): Outcome {
    const { exportName, wishes } = decodeInfoRequest(data);
    const entry = findExport(this.#exports, exportName);
    if (entry === undefined) return refuse(option, OPTION_REPLY.errUnknown, 'there is no such export');
    const send = [...this.#information(entry, wishes)].map((information) =>
      encodeOptionReply(option, OPTION_REPLY.info, encodeInformation(information)),
    );
    send.push(encodeOptionReply(option, OPTION_REPLY.ack));
    if (option === OPTION.info) return { next: 'option', send };
    return { next: 'transmission', send, agreement: this.#agreement(entry) };
  }

  *#information(entry: NbdExport, wishes: readonly number[]): Generator<Information> {
    const { device, description } = entry;
    yield {
      kind: 'export',
      sizeBytes: device.lengthBytes,
      transmissionFlags: transmissionFlags(entry, this.#structured),
    };
    if (wishes.includes(INFO.name)) yield { kind: 'name', text: entry.name };
    if (wishes.includes(INFO.description) && description !== undefined)
      yield { kind: 'description', text: description };
    // Devices take any offset and length. A larger minimum is what breaks mounts through the Linux client.
    yield { kind: 'block-size', leastBytes: 1, preferredBytes: 4096, mostBytes: this.#limits.payloadBytes };
  }

  #metaContext(option: number, data: Buffer): Outcome {
    const listing = option === OPTION.listMetaContext;
    if (!listing) this.#selected = undefined;
    if (!this.#structured) return refuse(option, OPTION_REPLY.errInvalid, 'agree on structured replies first');
    const { exportName, queries } = decodeMetaContextRequest(data);
    const entry = findExport(this.#exports, exportName);
    if (entry === undefined) return refuse(option, OPTION_REPLY.errUnknown, 'there is no such export');
    const all = listing && queries.length === 0;
    const contexts = contextsOf(entry).filter(
      (context) => all || queries.some((query) => queryMatches(query, context, listing)),
    );
    if (!listing) this.#selected = { export: entry, contexts };
    const replies = contexts.map(({ name }, index) =>
      encodeOptionReply(option, OPTION_REPLY.metaContext, encodeMetaContext({ id: listing ? 0 : index + 1, name })),
    );
    return accept(option, replies);
  }

  #agreement(entry: NbdExport): Agreement {
    // Contexts that were selected for another export count for nothing.
    const contexts = this.#selected?.export === entry ? this.#selected.contexts : [];
    return { export: entry, structured: this.#structured, contexts };
  }
}

function accept(option: number, before: readonly Buffer[] = []): Outcome {
  return { next: 'option', send: [...before, encodeOptionReply(option, OPTION_REPLY.ack)] };
}

function refuse(option: number, type: number, message: string): Outcome {
  if (type < OPTION_REPLY_ERROR) throw new RangeError(`${type} is not an error`);
  return { next: 'option', send: [encodeOptionReply(option, type, Buffer.from(message))] };
}

function unexpectedData(option: number): Outcome {
  return refuse(option, OPTION_REPLY.errInvalid, 'this option carries no data');
}
