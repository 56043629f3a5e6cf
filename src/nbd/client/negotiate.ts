// SPDX-License-Identifier: MIT
// The handshake: from the greeting to the terms under which requests may be sent.

import { FailedError } from '../../base/errors.js';
import {
  CONTEXT_ALLOCATION,
  CONTEXT_BITMAP_PREFIX,
  DEFAULT_MOST_PAYLOAD_BYTES,
  EXPORT_NAME_REPLY_BYTES,
  EXPORT_NAME_ZEROES_BYTES,
  GREETING_BYTES,
  HANDSHAKE_FLAG,
  INFO,
  OPTION,
  OPTION_REPLY,
  OPTION_REPLY_ERROR,
  OPTION_REPLY_HEADER_BYTES,
  TRANSMISSION_FLAG,
} from '../protocol/constants.js';
import {
  decodeExportNameReply,
  decodeGreeting,
  decodeOptionReplyHeader,
  type ExportSize,
  encodeClientFlags,
  encodeOption,
} from '../protocol/handshake.js';
import {
  decodeInformation,
  decodeMessage,
  decodeMetaContext,
  encodeInfoRequest,
  encodeMetaContextRequest,
  type Information,
} from '../protocol/option-data.js';
import { brokenProtocol, connectionLost } from './client-errors.js';
import type { ClientSocket } from './client-socket.js';
import type { NbdAddress } from './nbd-uri.js';

export const CONTEXT_DEPTH = 'qemu:allocation-depth';

/** What was agreed on. */
export interface Terms {
  readonly sizeBytes: number;
  readonly flags: number;
  readonly blockSize: { readonly leastBytes: number; readonly mostBytes: number };
  readonly structured: boolean;
  /** The ids of those metadata contexts that the server has. */
  readonly contexts: Readonly<Partial<Record<ContextKind, number>>>;
}

export type ContextKind = 'allocation' | 'depth' | 'bitmap';

/** No option has a longer reply. */
const MOST_REPLY_BYTES = 16 << 10;
/** Replies to one option before its end. */
const MOST_REPLIES = 64;
const MOST_BLOCK_BYTES = 1 << 16;

interface Reply {
  readonly type: number;
  readonly data: Buffer;
}

/** A dirty bitmap to ask for. `alone`: and for no other metadata, since all contexts are answered for together. */
export interface WantedBitmap {
  readonly name: string;
  readonly alone: boolean;
}

/** Rejects when the server does not have the bitmap. */
export async function negotiate(
  socket: ClientSocket,
  address: NbdAddress,
  bitmap: WantedBitmap | undefined,
): Promise<Terms> {
  return await new Negotiation(socket, address, bitmap).run();
}

class Negotiation {
  constructor(
    private readonly socket: ClientSocket,
    private readonly address: NbdAddress,
    private readonly bitmap: WantedBitmap | undefined,
  ) {}

  async run(): Promise<Terms> {
    const offered = decodeGreeting(await this.socket.read(GREETING_BYTES));
    const flags = offered & (HANDSHAKE_FLAG.fixedNewstyle | HANDSHAKE_FLAG.noZeroes);
    this.socket.write(encodeClientFlags(flags));
    const noZeroes = (flags & HANDSHAKE_FLAG.noZeroes) !== 0;
    if ((flags & HANDSHAKE_FLAG.fixedNewstyle) === 0) {
      // Such a server hangs up on any option that it does not know.
      if (this.address.tls !== undefined) throw this.#noTls('it is too old for TLS');
      return await this.#byName(false, {}, noZeroes);
    }
    if (this.address.tls !== undefined) await this.#startTls();
    const structured = await this.#agreeOnStructured();
    const contexts = structured ? await this.#chooseContexts() : {};
    this.#checkBitmap(contexts);
    return (await this.#go(structured, contexts)) ?? (await this.#byName(structured, contexts, noZeroes));
  }

  async #startTls(): Promise<void> {
    const { type, data } = (await this.#ask(OPTION.startTls))[0]!;
    if (type !== OPTION_REPLY.ack) throw this.#noTls(decodeMessage(data) || 'it does not offer it');
    await this.socket.startTls();
  }

  #noTls(why: string): FailedError {
    return new FailedError('no-tls', `the NBD server does not do TLS: ${why}`, {
      object: this.address.uri,
      advice: 'Set up TLS in the server, or write nbd:// where the way to it is safe.',
    });
  }

  async #agreeOnStructured(): Promise<boolean> {
    const { type, data } = (await this.#ask(OPTION.structuredReply))[0]!;
    if (type === OPTION_REPLY.errTlsRequired) throw this.#refused(type, data);
    return type === OPTION_REPLY.ack;
  }

  async #chooseContexts(): Promise<Terms['contexts']> {
    const kinds = new Map<string, ContextKind>();
    if (this.bitmap?.alone !== true) kinds.set(CONTEXT_ALLOCATION, 'allocation').set(CONTEXT_DEPTH, 'depth');
    if (this.bitmap !== undefined) kinds.set(`${CONTEXT_BITMAP_PREFIX}${this.bitmap.name}`, 'bitmap');
    const request = { exportName: this.address.exportName, queries: [...kinds.keys()] };
    const replies = await this.#ask(OPTION.setMetaContext, encodeMetaContextRequest(request));
    const contexts: Partial<Record<ContextKind, number>> = {};
    for (const { type, data } of replies) {
      if (type >= OPTION_REPLY_ERROR) return {};
      if (type !== OPTION_REPLY.metaContext) continue;
      const { id, name } = decodeMetaContext(data);
      const kind = kinds.get(name);
      if (kind === undefined || contexts[kind] !== undefined || Object.values(contexts).includes(id)) {
        throw brokenProtocol(this.address.uri, 'it chose a metadata context that it was not asked for');
      }
      contexts[kind] = id;
    }
    return contexts;
  }

  #checkBitmap(contexts: Terms['contexts']): void {
    if (this.bitmap === undefined || contexts.bitmap !== undefined) return;
    throw new FailedError('no-bitmap', `the NBD server does not export the dirty bitmap ${this.bitmap.name}`, {
      object: this.address.uri,
      advice: 'Export it with the disk: qemu-nbd --bitmap=NAME, or "bitmaps" of block-export-add.',
    });
  }

  /** Undefined where the server does not know GO. */
  async #go(structured: boolean, contexts: Terms['contexts']): Promise<Terms | undefined> {
    const data = encodeInfoRequest({ exportName: this.address.exportName, wishes: [INFO.blockSize] });
    let size: ExportSize | undefined;
    let block: Extract<Information, { kind: 'block-size' }> | undefined;
    for (const reply of await this.#ask(OPTION.go, data)) {
      if (reply.type === OPTION_REPLY.errUnsupported) return undefined;
      if (reply.type >= OPTION_REPLY_ERROR) throw this.#refused(reply.type, reply.data);
      if (reply.type !== OPTION_REPLY.info) continue;
      const information = decodeInformation(reply.data);
      if (information.kind === 'export') size = information;
      if (information.kind === 'block-size') block = information;
    }
    if (size === undefined) throw brokenProtocol(this.address.uri, 'it does not tell the size of the export');
    return this.#terms(size, block, structured, contexts);
  }

  async #byName(structured: boolean, contexts: Terms['contexts'], noZeroes: boolean): Promise<Terms> {
    this.socket.write(encodeOption(OPTION.exportName, Buffer.from(this.address.exportName)));
    const length = EXPORT_NAME_REPLY_BYTES + (noZeroes ? 0 : EXPORT_NAME_ZEROES_BYTES);
    const reply = await this.socket.read(length).catch((error: unknown) => {
      const why = 'it hung up when the export was named; perhaps it has none of that name';
      throw error instanceof FailedError && error.code === 'nbd-lost'
        ? connectionLost(this.address.uri, why, error)
        : error;
    });
    return this.#terms(decodeExportNameReply(reply), undefined, structured, contexts);
  }

  #terms(
    { sizeBytes, transmissionFlags }: ExportSize,
    block: Extract<Information, { kind: 'block-size' }> | undefined,
    structured: boolean,
    contexts: Terms['contexts'],
  ): Terms {
    if (!Number.isSafeInteger(sizeBytes)) {
      throw brokenProtocol(this.address.uri, 'it gives the export a size that no disk has');
    }
    const flags = (transmissionFlags & TRANSMISSION_FLAG.hasFlags) === 0 ? 0 : transmissionFlags;
    const leastBytes = block?.leastBytes ?? 1;
    const mostBytes = Math.min(block?.mostBytes ?? DEFAULT_MOST_PAYLOAD_BYTES, DEFAULT_MOST_PAYLOAD_BYTES);
    const isPower = leastBytes > 0 && (leastBytes & (leastBytes - 1)) === 0;
    if (!isPower || leastBytes > MOST_BLOCK_BYTES || mostBytes < leastBytes) {
      throw brokenProtocol(this.address.uri, `it demands blocks of ${leastBytes} to ${mostBytes} bytes`);
    }
    const blockSize = { leastBytes, mostBytes: mostBytes - (mostBytes % leastBytes) };
    return { sizeBytes, flags, blockSize, structured, contexts };
  }

  /** Sends an option and collects its replies, the last of which is an ACK or an error. */
  async #ask(option: number, data?: Uint8Array): Promise<Reply[]> {
    const { uri } = this.address;
    this.socket.write(encodeOption(option, data));
    const replies: Reply[] = [];
    for (;;) {
      const header = decodeOptionReplyHeader(await this.socket.read(OPTION_REPLY_HEADER_BYTES));
      if (header.option !== option) throw brokenProtocol(uri, 'it answers an option that was not sent');
      if (header.lengthBytes > MOST_REPLY_BYTES) {
        throw brokenProtocol(uri, `a reply to an option of ${header.lengthBytes} bytes`);
      }
      replies.push({ type: header.type, data: await this.socket.read(header.lengthBytes) });
      if (header.type === OPTION_REPLY.ack || header.type >= OPTION_REPLY_ERROR) return replies;
      if (replies.length >= MOST_REPLIES) throw brokenProtocol(uri, 'it does not stop answering an option');
    }
  }

  #refused(type: number, data: Uint8Array): FailedError {
    const { uri, exportName } = this.address;
    const said = decodeMessage(data);
    const why = said === '' ? '' : `: ${said}`;
    switch (type) {
      case OPTION_REPLY.errUnknown:
        return new FailedError('no-such-export', `the NBD server has no export named "${exportName}"${why}`, {
          object: uri,
          advice: 'nbdinfo --list shows what it has.',
        });
      case OPTION_REPLY.errTlsRequired:
        return new FailedError('tls-required', `the NBD server wants TLS${why}`, {
          object: uri,
          advice: 'Write nbds:// or nbds+unix://.',
        });
      case OPTION_REPLY.errShutdown:
        return connectionLost(uri, 'the server is shutting down');
      default:
        return new FailedError('nbd-refused', `the NBD server refuses to give the export${why}`, {
          object: uri,
          found: `error 0x${type.toString(16)}`,
        });
    }
  }
}
