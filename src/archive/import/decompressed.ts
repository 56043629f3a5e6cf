// SPDX-License-Identifier: MIT
// Takes compressions off a stream: zstd and gzip here, lzop by the program of that name. What it is, its first bytes say.

import { spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { bytesEqual } from '../../base/bytes.js';
import { FailedError, systemErrorCode, VmarError } from '../../base/errors.js';
import { type ByteStream, BytesAgain, firstBytes } from './byte-stream.js';
import { compressedCut, compressedDamaged } from './compression-errors.js';
import { isZstdStart, type Rooms, ZstdBytes } from './zstd-bytes.js';

const GZIP_MAGIC = Uint8Array.of(0x1f, 0x8b);
const LZOP_MAGIC = Uint8Array.of(0x89, 0x4c, 0x5a, 0x4f, 0x00, 0x0d, 0x0a, 0x1a, 0x0a);
/** Of a file that ends too early it says what errno happens to hold: "lzop: Inappropriate ioctl for device: <stdin>". */
const LZOP_CUT = /^lzop: [^<]*: <stdin>$|unexpected end of file/m;
/** Members end to end, which it takes one after another, and warns that `lzop -x` would take the first alone. */
const LZOP_MULTIPART = /^(lzop: <stdin>: warning: this is a multipart archive[^\n]*\s*)+$/;
/** How many of a stream's first bytes tell its compression. */
export const SNIFFED_BYTES = 16;
const GUNZIP_PIECE_BYTES = 1 << 18;

/** Whether a stream that begins so is compressed. */
export function isCompressed(first: Uint8Array): boolean {
  return isZstdStart(first) || begins(first, GZIP_MAGIC) || begins(first, LZOP_MAGIC);
}

/**
 * The stream without its compression, if it has one; closing it closes the stream.
 * @param rooms memory that may be filled in place
 */
export async function decompressed(stream: ByteStream, rooms: Rooms): Promise<ByteStream> {
  const first = await firstBytes(stream, SNIFFED_BYTES);
  const whole = new BytesAgain(first, stream);
  if (isZstdStart(first)) return new ZstdBytes(whole, rooms);
  if (begins(first, GZIP_MAGIC)) return gunzipped(whole);
  if (begins(first, LZOP_MAGIC)) return unlzopped(whole);
  return whole;
}

function begins(bytes: Uint8Array, magic: Uint8Array): boolean {
  return bytesEqual(bytes.subarray(0, magic.byteLength), magic);
}

function gunzipped(stream: ByteStream): ByteStream {
  const gunzip = createGunzip({ chunkSize: GUNZIP_PIECE_BYTES });
  const wording = (error: unknown, name: string, fedBytes: number): VmarError => {
    if (systemErrorCode(error) === 'Z_BUF_ERROR') return compressedCut(name, fedBytes, error);
    const why = error instanceof Error ? error.message : String(error);
    return compressedDamaged(name, why, error, gunzip.bytesWritten);
  };
  return new ThroughBytes(stream, { input: gunzip, output: gunzip, wording, end: async () => {} });
}

function unlzopped(stream: ByteStream): ByteStream {
  const child = spawn('lzop', ['-dc'], { stdio: ['pipe', 'pipe', 'pipe'] });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    if (said.length < 1000) said += text;
  });
  const ended = new Promise<number | undefined>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status) => resolve(status ?? undefined));
  });
  ended.catch(() => undefined);
  const end = async (isWhole: boolean): Promise<void> => {
    if (!isWhole) child.kill('SIGKILL');
    const status = await ended;
    if (isWhole && status !== 0 && !LZOP_MULTIPART.test(said))
      throw new Error(said.trim() || `lzop ended with status ${status}`);
  };
  return new ThroughBytes(stream, { input: child.stdin, output: child.stdout, wording: lzopFailure, end });
}

function lzopFailure(error: unknown, name: string, fedBytes: number): VmarError {
  if (systemErrorCode(error) === 'ENOENT') {
    return new FailedError('no-lzop', 'it is compressed by lzop, which is not installed', {
      object: name,
      advice: 'Install it: apt-get install lzop.',
      cause: error,
    });
  }
  const why = error instanceof Error ? error.message : String(error);
  return LZOP_CUT.test(why) ? compressedCut(name, fedBytes, error) : compressedDamaged(name, why, error);
}

interface Through {
  readonly input: Writable;
  readonly output: Readable;
  /** `fedBytes` is how many bytes it was given. */
  readonly wording: (error: unknown, name: string, fedBytes: number) => VmarError;
  /** Rejects if all was not well; `isWhole` is false where nobody wants the rest. */
  readonly end: (isWhole: boolean) => Promise<void>;
}

/** What a stream becomes on its way through something else. Memory is what is on its way. */
class ThroughBytes implements ByteStream {
  readonly name: string;
  readonly #stream: ByteStream;
  readonly #through: Through;
  readonly #pieces: AsyncIterator<Uint8Array>;
  readonly #fed: Promise<void>;
  #feedFailure: unknown;
  #fedBytes = 0;
  #isClosed = false;

  constructor(stream: ByteStream, through: Through) {
    this.name = stream.name;
    this.#stream = stream;
    this.#through = through;
    through.input.on('error', () => undefined);
    this.#pieces = through.output[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
    this.#fed = this.#feed();
  }

  /** Never rejects. */
  async #feed(): Promise<void> {
    const { input } = this.#through;
    try {
      for (let piece = await this.#stream.next(); piece !== undefined; piece = await this.#stream.next()) {
        const bytes = piece;
        this.#fedBytes += bytes.byteLength;
        await new Promise<void>((resolve, reject) => {
          input.write(bytes, (error) => (error ? reject(error) : resolve()));
        });
      }
      input.end();
    } catch (error) {
      // What the reader of it says of itself counts for more than that it took no more.
      if (error instanceof VmarError) this.#feedFailure = error;
      input.destroy();
    }
  }

  async next(): Promise<Uint8Array | undefined> {
    try {
      const { value, done } = await this.#pieces.next();
      if (done !== true) return value;
      await this.#fed;
      if (this.#feedFailure !== undefined) throw this.#feedFailure;
      await this.#through.end(true);
      return undefined;
    } catch (error) {
      throw this.#feedFailure ?? (await this.#failure(error));
    }
  }

  async #failure(error: unknown): Promise<unknown> {
    if (error instanceof VmarError) return error;
    // A program that is not there breaks its pipes, too.
    const reason = await this.#through.end(true).then(
      () => error,
      (end: unknown) => end,
    );
    return this.#through.wording(reason, this.name, this.#fedBytes);
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const { input, output, end } = this.#through;
    input.destroy();
    output.destroy();
    await end(false).catch(() => undefined);
    await this.#stream.close();
  }
}
