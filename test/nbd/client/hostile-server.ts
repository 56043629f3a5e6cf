// SPDX-License-Identifier: MIT
// A server that answers as a test tells it to: by default well, for one small export.

import net from 'node:net';
import { encodeStatusChunk } from '#vmar/src/nbd/protocol/chunks.js';
import {
  CHUNK,
  CHUNK_FLAG_DONE,
  COMMAND,
  HANDSHAKE_FLAG,
  OPTION,
  OPTION_HEADER_BYTES,
  OPTION_REPLY,
  REQUEST_BYTES,
  TRANSMISSION_FLAG,
} from '#vmar/src/nbd/protocol/constants.js';
import { encodeGreeting, encodeOptionReply } from '#vmar/src/nbd/protocol/handshake.js';
import { encodeInformation, encodeMetaContext } from '#vmar/src/nbd/protocol/option-data.js';
import { decodeRequest, encodeChunkHeader, type NbdRequest } from '#vmar/src/nbd/protocol/requests.js';

export const SIZE = 1 << 20;
export const CONTEXT = 7;

/** Each may give other bytes than the right ones. */
export interface Behaviour {
  readonly greeting?: () => Buffer;
  /** Undefined: the right reply. */
  readonly option?: (option: number) => Buffer | undefined;
  readonly request?: (request: NbdRequest) => Buffer | undefined;
  /** Ends the connection in place of an answer. */
  readonly hangsUpAt?: (request: NbdRequest) => boolean;
  readonly transmissionFlags?: number;
  /** Has the last word on all that is sent. */
  readonly mangle?: (bytes: Buffer) => Buffer;
}

export function chunk(request: NbdRequest, type: number, payload: Buffer, flags = CHUNK_FLAG_DONE): Buffer {
  const header = Buffer.alloc(20);
  encodeChunkHeader({ ...request, flags, type, lengthBytes: payload.length }, header, 0);
  return Buffer.concat([header, payload]);
}

export function data(
  request: NbdRequest,
  at = request.offsetBytes,
  length = request.lengthBytes,
  flags?: number,
): Buffer {
  const payload = Buffer.alloc(8 + length, 0xab);
  payload.writeBigUInt64BE(BigInt(at), 0);
  return chunk(request, CHUNK.offsetData, payload, flags);
}

export function goodOption(option: number, moreFlags = 0): Buffer {
  const ack = encodeOptionReply(option, OPTION_REPLY.ack);
  if (option === OPTION.go) {
    const transmissionFlags =
      TRANSMISSION_FLAG.hasFlags | TRANSMISSION_FLAG.sendFlush | TRANSMISSION_FLAG.sendWriteZeroes | moreFlags;
    const info = encodeInformation({ kind: 'export', sizeBytes: SIZE, transmissionFlags });
    return Buffer.concat([encodeOptionReply(option, OPTION_REPLY.info, info), ack]);
  }
  if (option === OPTION.setMetaContext) {
    const context = encodeMetaContext({ id: CONTEXT, name: 'base:allocation' });
    return Buffer.concat([encodeOptionReply(option, OPTION_REPLY.metaContext, context), ack]);
  }
  return ack;
}

export function goodAnswer(request: NbdRequest): Buffer {
  if (request.type === COMMAND.read) return data(request);
  if (request.type === COMMAND.blockStatus) {
    const status = { contextId: CONTEXT, extents: [{ lengthBytes: request.lengthBytes, flags: 3 }] };
    return chunk(request, CHUNK.blockStatus, encodeStatusChunk(status));
  }
  return chunk(request, CHUNK.none, Buffer.alloc(0));
}

export class HostileServer {
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();

  private constructor(
    readonly uri: string,
    behaviour: Behaviour,
  ) {
    this.#server = net.createServer((socket) => {
      this.#sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => this.#sockets.delete(socket));
      converse(socket, behaviour);
    });
  }

  static async start(socketPath: string, behaviour: Behaviour): Promise<HostileServer> {
    const server = new HostileServer(`nbd+unix:///?socket=${socketPath}`, behaviour);
    await new Promise<void>((resolve) => server.#server.listen(socketPath, resolve));
    return server;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

function converse(socket: net.Socket, behaviour: Behaviour): void {
  let unread = Buffer.alloc(0);
  let phase: 'flags' | 'options' | 'requests' = 'flags';
  const send = (bytes: Buffer): void => {
    const mangled = behaviour.mangle?.(bytes) ?? bytes;
    if (mangled.length > 0) socket.write(mangled);
  };
  const step = (): boolean => {
    if (phase === 'flags') {
      if (unread.length < 4) return false;
      unread = unread.subarray(4);
      phase = 'options';
      return true;
    }
    if (phase === 'options') {
      if (unread.length < OPTION_HEADER_BYTES) return false;
      const end = OPTION_HEADER_BYTES + unread.readUInt32BE(12);
      if (unread.length < end) return false;
      const option = unread.readUInt32BE(8);
      unread = unread.subarray(end);
      if (option === OPTION.go) phase = 'requests';
      send(behaviour.option?.(option) ?? goodOption(option, behaviour.transmissionFlags));
      return true;
    }
    if (unread.length < REQUEST_BYTES) return false;
    const request = decodeRequest(unread, 0);
    const end = REQUEST_BYTES + (request.type === COMMAND.write ? request.lengthBytes : 0);
    if (unread.length < end) return false;
    unread = unread.subarray(end);
    if (request.type === COMMAND.disconnect || behaviour.hangsUpAt?.(request)) socket.end();
    else send(behaviour.request?.(request) ?? goodAnswer(request));
    return true;
  };
  send(behaviour.greeting?.() ?? encodeGreeting(HANDSHAKE_FLAG.fixedNewstyle | HANDSHAKE_FLAG.noZeroes));
  socket.on('data', (bytes: Buffer) => {
    unread = Buffer.concat([unread, bytes]);
    while (step());
  });
}
