// SPDX-License-Identifier: MIT
// The byte stream to a server: first pulled piece by piece for the handshake, then pushed to the parser of replies.

import net from 'node:net';
import tls from 'node:tls';
import { InterruptedError } from '../../base/errors.js';
import { brokenProtocol, connectFailed, connectionLost } from './client-errors.js';
import type { NbdAddress } from './nbd-uri.js';
import { tlsConnectOptions } from './tls-credentials.js';

/** What the kernel hands over at most in one call; small enough to stay in the processor's cache until it is copied. */
const RECEIVE_BYTES = 256 << 10;
/** In the handshake the server speaks when asked: so much is never outstanding. */
const MOST_UNREAD_BYTES = 256 << 10;

type Reader =
  | { readonly kind: 'idle' }
  | { readonly kind: 'pull'; readonly lengthBytes: number; readonly done: (bytes: Buffer) => void }
  | { readonly kind: 'push'; readonly take: (bytes: Buffer) => void };

export class ClientSocket {
  readonly #address: NbdAddress;
  #socket: net.Socket;
  #reader: Reader = { kind: 'idle' };
  #unread: Buffer[] = [];
  #unreadBytes = 0;
  /** Why nothing comes any more. */
  #ended: Error | undefined;
  #onEnd: ((why: Error) => void) | undefined;
  #failPull: ((why: Error) => void) | undefined;
  #corked = false;

  private constructor(address: NbdAddress, socket: net.Socket) {
    this.#address = address;
    this.#socket = socket;
  }

  /** Rejects with LostConnection when nobody answers, with InterruptedError when the signal aborts. */
  static connect(address: NbdAddress, signal: AbortSignal): Promise<ClientSocket> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(new InterruptedError());
      const { transport } = address;
      const where =
        transport.kind === 'unix' ? { path: transport.path } : { host: transport.host, port: transport.port };
      // With TLS the bytes are read by the TLS layer: into memory of its own.
      const take = (count: number, buffer: Uint8Array): boolean => {
        made.#received(Buffer.from(buffer.buffer, buffer.byteOffset, count), true);
        return true;
      };
      const onread = { buffer: Buffer.allocUnsafeSlow(RECEIVE_BYTES), callback: take };
      const socket = net.connect(address.tls === undefined ? { ...where, onread } : where);
      const made: ClientSocket = new ClientSocket(address, socket);
      const onAbort = (): void => made.destroy(new InterruptedError());
      signal.addEventListener('abort', onAbort, { once: true });
      made.#listen(socket, address.tls !== undefined);
      made.#onEnd = (why) => {
        signal.removeEventListener('abort', onAbort);
        reject(signal.aborted ? new InterruptedError() : connectFailed(address.uri, why.cause ?? why));
      };
      socket.once('connect', () => {
        signal.removeEventListener('abort', onAbort);
        made.#onEnd = undefined;
        if (address.transport.kind === 'tcp') socket.setNoDelay(true).setKeepAlive(true, 30_000);
        resolve(made);
      });
    });
  }

  #listen(socket: net.Socket, byEvents: boolean): void {
    if (byEvents) socket.on('data', (bytes: Buffer) => this.#received(bytes, false));
    socket.on('error', (error) => this.#end(connectionLost(this.#address.uri, error.message, error)));
    socket.on('close', () => this.#end(connectionLost(this.#address.uri, 'the server closed it')));
  }

  /** @param reused whether the memory is overwritten as soon as this returns */
  #received(bytes: Buffer, reused: boolean): void {
    if (this.#ended !== undefined) return;
    if (this.#reader.kind === 'push') {
      this.#reader.take(bytes);
      return;
    }
    this.#unread.push(reused ? Buffer.from(bytes) : bytes);
    this.#unreadBytes += bytes.length;
    if (this.#unreadBytes > MOST_UNREAD_BYTES) {
      this.destroy(brokenProtocol(this.#address.uri, 'it sends more than it was asked for'));
    } else this.#servePull();
  }

  #servePull(): void {
    const reader = this.#reader;
    if (reader.kind !== 'pull' || this.#unreadBytes < reader.lengthBytes) return;
    const all = Buffer.concat(this.#unread);
    const rest = all.subarray(reader.lengthBytes);
    this.#unread = rest.length > 0 ? [rest] : [];
    this.#unreadBytes = rest.length;
    this.#reader = { kind: 'idle' };
    this.#failPull = undefined;
    reader.done(all.subarray(0, reader.lengthBytes));
  }

  #end(why: Error): void {
    if (this.#ended !== undefined) return;
    this.#ended = why;
    this.#unread = [];
    this.#failPull?.(why);
    this.#onEnd?.(why);
  }

  /** The next bytes; for the handshake, one call at a time. Rejects once the connection has ended. */
  read(lengthBytes: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      if (this.#ended !== undefined) return reject(this.#ended);
      this.#reader = { kind: 'pull', lengthBytes, done: resolve };
      this.#failPull = reject;
      this.#servePull();
    });
  }

  /** Writes of one turn of the event loop go out together. The memory must stay as it is until the server answers. */
  write(bytes: Uint8Array): void {
    if (this.#ended !== undefined) return;
    if (!this.#corked) {
      this.#corked = true;
      const socket = this.#socket;
      socket.cork();
      process.nextTick(() => {
        this.#corked = false;
        socket.uncork();
      });
    }
    this.#socket.write(bytes);
  }

  /** From now on everything is pushed: bytes, valid during the call only, and once the end. */
  flow(take: (bytes: Buffer) => void, onEnd: (why: Error) => void): void {
    if (this.#ended !== undefined) {
      queueMicrotask(() => onEnd(this.#ended!));
      return;
    }
    this.#onEnd = onEnd;
    this.#reader = { kind: 'push', take };
    const early = this.#unread;
    this.#unread = [];
    this.#unreadBytes = 0;
    for (const bytes of early) take(bytes);
  }

  /** After the server agreed to STARTTLS. Rejects with a FailedError when it is not whom it should be. */
  async startTls(): Promise<void> {
    if (this.#unreadBytes > 0) throw brokenProtocol(this.#address.uri, 'it sends plain text where TLS begins');
    const options = await tlsConnectOptions(this.#address);
    const plain = this.#socket;
    plain.removeAllListeners('data');
    plain.removeAllListeners('close');
    await new Promise<void>((resolve, reject) => {
      if (this.#ended !== undefined) return reject(this.#ended);
      const secure = tls.connect({ ...options, socket: plain });
      this.#socket = secure;
      this.#onEnd = reject;
      secure.once('secureConnect', () => {
        this.#onEnd = undefined;
        resolve();
      });
      this.#listen(secure, true);
    });
  }

  destroy(why: Error): void {
    this.#end(why);
    this.#socket.destroy();
  }

  /** Lets what was written go out, then closes. */
  close(): void {
    this.#end(connectionLost(this.#address.uri, 'it was closed'));
    this.#socket.end();
    // A server that never answers the farewell is not waited for.
    this.#socket.resume();
    this.#socket.unref();
    setTimeout(() => this.#socket.destroy(), FAREWELL_MILLIS).unref();
  }
}

const FAREWELL_MILLIS = 1000;
