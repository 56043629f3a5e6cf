// SPDX-License-Identifier: MIT
// Positioned reads of one container: opening takes constant memory, finding a chunk one or two page reads. Everything
// read is checked against its seal before use; what fails is a DamageError with file and offset.
//
// Reads are synchronous: pages are 16 KiB and mostly cached, and the callers are either in a hot loop where a promise
// would cost more than the read, or in no hurry.

import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import {
  CONTAINER_HEADER_BYTES,
  type ContainerHeader,
  decodeContainerHeader,
} from '../../formats/vmar/container-header.js';
import { decodeExtentHead, decodeExtentHeader, EXTENT_HEADER_BYTES, type Extent } from '../../formats/vmar/extent.js';
import { SEAL_BYTES } from '../../formats/vmar/hash.js';
import {
  CHUNKS_PER_PAGE,
  decodeFooter,
  decodeTableChunk,
  decodeTableFrame,
  FOOTER_BYTES,
  type Footer,
  FRAMES_PER_PAGE,
  openTablePage,
  TABLE_CHUNK_BYTES,
  TABLE_FRAME_BYTES,
  type TableChunk,
  type TableFrame,
  tablePageOffset,
} from '../../formats/vmar/trailer.js';
import { compareBytes } from '../base/bytes.js';
import { BugError, DamageError, FailedError, NotFoundError, systemErrorCode } from '../base/errors.js';
import { PageCache } from './page-cache.js';

/** Table pages kept per process: 32 MiB. */
const CACHED_PAGES = 2048;
/** Too many open files, no memory. */
const RESOURCES: ReadonlySet<string> = new Set(['EMFILE', 'ENFILE', 'ENOMEM']);
const sharedCache = new PageCache<Uint8Array>(CACHED_PAGES);
let readers = 0;

export class ContainerReader {
  readonly path: string;
  readonly header: ContainerHeader;
  readonly footer: Footer;
  readonly fileBytes: number;
  readonly #cacheKey: string;
  #fd: number | undefined;
  #pins = 0;
  #closing = false;
  #stale = false;

  private constructor(path: string, fd: number, fileBytes: number) {
    this.path = path;
    this.#fd = fd;
    this.fileBytes = fileBytes;
    this.#cacheKey = `${readers++}`;
    this.header = decodeContainerHeader(this.readBytes(0, CONTAINER_HEADER_BYTES), path);
    const footerAt = fileBytes - FOOTER_BYTES;
    this.footer = decodeFooter(this.readBytes(footerAt, FOOTER_BYTES), this.header.hash, {
      object: path,
      containerId: this.header.containerId,
      fileBytes,
    });
  }

  /**
   * Opens a container and checks header and footer.
   * @throws NotFoundError if there is no file, DamageError if it is cut or damaged, FailedError if it is newer.
   */
  static open(path: string): ContainerReader {
    const fd = openForReading(path);
    try {
      const stat = fstatSync(fd);
      if (!stat.isFile()) throw new FailedError('not-a-file', 'this is not a file', { object: path });
      const fileBytes = stat.size;
      if (fileBytes < CONTAINER_HEADER_BYTES + FOOTER_BYTES) {
        throw new DamageError('container-cut', 'the file is too short to be a container', {
          object: path,
          offsetBytes: fileBytes,
          expected: `at least ${CONTAINER_HEADER_BYTES + FOOTER_BYTES} bytes`,
          found: `${fileBytes} bytes`,
        });
      }
      return new ContainerReader(path, fd, fileBytes);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** The descriptor; valid while the container is pinned, or until it is closed. */
  get fd(): number {
    if (this.#fd === undefined) throw new BugError(`${this.path} is read after it was closed`);
    return this.#fd;
  }

  /**
   * Keeps the descriptor open while someone (a worker, say) reads from it; pair it with `unpin`. One that was closed
   * meanwhile, to make room for others, is opened again: a container never changes.
   * @throws DamageError if the file is gone.
   */
  pin(): void {
    this.#fd ??= this.#openAgain();
    this.#pins++;
  }

  #openAgain(): number {
    try {
      return openForReading(this.path);
    } catch (error) {
      if (!(error instanceof NotFoundError)) throw error;
      const facts = { object: this.path, offsetBytes: 0, cause: error };
      throw new DamageError('container-gone', 'the file went away while it was in use', facts);
    }
  }

  unpin(): void {
    this.#pins--;
    if (this.#closing || this.#stale) this.#closeUnused();
  }

  /** Lets the next use open the file anew, once nobody reads from it: its descriptor may be dead (ESTALE, unmounted). */
  openAgain(): void {
    this.#stale = true;
    this.#closeUnused();
  }

  /** Closes the descriptor, at once or when the last pin is gone. */
  close(): void {
    this.#closing = true;
    this.#closeUnused();
  }

  #closeUnused(): void {
    if (this.#pins > 0 || this.#fd === undefined) return;
    const fd = this.#fd;
    this.#fd = undefined;
    this.#stale = false;
    closeForReading(fd);
  }

  /**
   * The entry of a chunk, or undefined. Interpolates: ids are uniformly distributed.
   * @throws DamageError if the page that would name it is damaged; damage of other pages is searched around.
   */
  find(id: Uint8Array): TableChunk | undefined {
    let low = 0;
    let high = this.chunkPageCount - 1;
    const rank = idRank(id);
    let lowRank = 0;
    let highRank = 1;
    for (let step = 0; low <= high; step++) {
      const guess = step < 4 ? interpolate(low, high, lowRank, highRank, rank) : (low + high) >>> 1;
      const { page, entries } = this.#readablePage(guess, low, high);
      const last = entries.byteLength - TABLE_CHUNK_BYTES;
      if (compareBytes(id, entries.subarray(0, 32)) < 0) {
        high = page - 1;
        highRank = idRank(entries);
      } else if (compareBytes(id, entries.subarray(last, last + 32)) > 0) {
        low = page + 1;
        lowRank = idRank(entries.subarray(last));
      } else {
        return findInPage(entries, id, this.path);
      }
    }
    return undefined;
  }

  /** The page nearest to `guess` in [low, high] that can be read; the damage of the guessed one if none can. */
  #readablePage(guess: number, low: number, high: number): { page: number; entries: Uint8Array } {
    try {
      return { page: guess, entries: this.chunkPage(guess) };
    } catch (error) {
      if (!(error instanceof DamageError)) throw error;
      for (let away = 1; guess - away >= low || guess + away <= high; away++) {
        for (const page of [guess - away, guess + away]) {
          if (page < low || page > high) continue;
          const entries = this.#undamaged(page);
          if (entries !== undefined) return { page, entries };
        }
      }
      throw error;
    }
  }

  #undamaged(page: number): Uint8Array | undefined {
    try {
      return this.chunkPage(page);
    } catch (error) {
      if (error instanceof DamageError) return undefined;
      throw error;
    }
  }

  /** The verified entries of page `page` of the chunk table, end to end. */
  chunkPage(page: number): Uint8Array {
    return this.#page(
      'c',
      this.footer.chunkTableOffset,
      page,
      this.footer.chunkCount,
      TABLE_CHUNK_BYTES,
      CHUNKS_PER_PAGE,
    );
  }

  get chunkPageCount(): number {
    return Math.ceil(this.footer.chunkCount / CHUNKS_PER_PAGE);
  }

  frame(index: number): TableFrame {
    if (index >= this.footer.frameCount) {
      throw new DamageError('frame-number', 'a frame number is past the frame table', {
        object: this.path,
        expected: `below ${this.footer.frameCount}`,
        found: `${index}`,
      });
    }
    const page = Math.floor(index / FRAMES_PER_PAGE);
    const entries = this.#page(
      'f',
      this.footer.frameTableOffset,
      page,
      this.footer.frameCount,
      TABLE_FRAME_BYTES,
      FRAMES_PER_PAGE,
    );
    return decodeTableFrame(entries, (index % FRAMES_PER_PAGE) * TABLE_FRAME_BYTES, this.path);
  }

  /** The verified entries of page `page` of the frame table, end to end. */
  framePage(page: number): Uint8Array {
    return this.#page(
      'f',
      this.footer.frameTableOffset,
      page,
      this.footer.frameCount,
      TABLE_FRAME_BYTES,
      FRAMES_PER_PAGE,
    );
  }

  get framePageCount(): number {
    return Math.ceil(this.footer.frameCount / FRAMES_PER_PAGE);
  }

  /** Header and tables of the extent at an offset. */
  extentHead(offsetBytes: number): Extent {
    const context = { object: this.path, containerId: this.header.containerId, offsetBytes };
    const first = this.readBytes(offsetBytes, EXTENT_HEADER_BYTES);
    const { headBytes } = decodeExtentHeader(first, context);
    return decodeExtentHead(this.readBytes(offsetBytes, headBytes), this.header.hash, context);
  }

  #page(
    table: string,
    tableOffset: number,
    page: number,
    count: number,
    entryBytes: number,
    perPage: number,
  ): Uint8Array {
    const key = `${this.#cacheKey}${table}${page}`;
    const cached = sharedCache.get(key);
    if (cached !== undefined) return cached;
    const offset = tablePageOffset(tableOffset, page, entryBytes, perPage);
    const inPage = Math.min(perPage, count - page * perPage);
    const sealed = this.readBytes(offset, inPage * entryBytes + SEAL_BYTES);
    const entries = openTablePage(sealed, this.header.hash, this.header.containerId, offset, this.path);
    sharedCache.set(key, entries);
    return entries;
  }

  /** Exactly `length` bytes from `offset`; a short read is damage, and so is EIO. */
  readBytes(offset: number, length: number): Uint8Array {
    this.pin();
    try {
      return this.#read(this.fd, offset, length);
    } finally {
      this.unpin();
    }
  }

  #read(fd: number, offset: number, length: number): Uint8Array {
    const bytes = Buffer.allocUnsafeSlow(length);
    let got = 0;
    while (got < length) {
      const n = readPiece(fd, bytes, got, offset + got, this.path);
      if (n === 0) {
        throw new DamageError('container-cut', 'the file ends too early', {
          object: this.path,
          offsetBytes: offset + got,
          expected: `${length - got} more bytes`,
          found: 'end of file',
        });
      }
      got += n;
    }
    return bytes;
  }
}

function readPiece(fd: number, into: Buffer, at: number, position: number, path: string): number {
  try {
    return readSync(fd, into, at, into.length - at, position);
  } catch (error) {
    if (RESOURCES.has(systemErrorCode(error) ?? '')) throw error;
    throw new DamageError('container-unreadable', `cannot be read: ${systemErrorCode(error) ?? String(error)}`, {
      object: path,
      offsetBytes: position,
      cause: error,
    });
  }
}

function openForReading(path: string): number {
  try {
    // Without O_NONBLOCK a FIFO would wait here for a writer.
    return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    const code = systemErrorCode(error);
    // What this process lacks is nobody's damage, and must not pass for it.
    if (code !== undefined && RESOURCES.has(code)) throw error;
    if (code === 'ENOENT') throw new NotFoundError('no-such-file', 'no such file', { object: path, cause: error });
    throw new FailedError('open-failed', `cannot be opened: ${code ?? String(error)}`, { object: path, cause: error });
  }
}

/** What was only read loses nothing by a failed close, and a dead mount may fail it. */
function closeForReading(fd: number): void {
  try {
    closeSync(fd);
  } catch (error) {
    if (systemErrorCode(error) === 'EBADF') throw error;
  }
}

/** The first 48 bits of an id as a fraction of the id space. */
function idRank(id: Uint8Array): number {
  return (
    ((id[0]! * 256 + id[1]!) * 2 ** 32 + (((id[2]! << 24) | (id[3]! << 16) | (id[4]! << 8) | id[5]!) >>> 0)) / 2 ** 48
  );
}

function interpolate(low: number, high: number, lowRank: number, highRank: number, rank: number): number {
  const share = highRank > lowRank ? (rank - lowRank) / (highRank - lowRank) : 0.5;
  return Math.min(high, Math.max(low, low + Math.floor(share * (high - low + 1))));
}

function findInPage(entries: Uint8Array, id: Uint8Array, path: string): TableChunk | undefined {
  let low = 0;
  let high = entries.byteLength / TABLE_CHUNK_BYTES - 1;
  let found: number | undefined;
  while (low <= high) {
    const middle = (low + high) >>> 1;
    const at = middle * TABLE_CHUNK_BYTES;
    const order = compareBytes(id, entries.subarray(at, at + 32));
    if (order === 0) found = at;
    if (order <= 0) high = middle - 1;
    else low = middle + 1;
  }
  return found === undefined ? undefined : decodeTableChunk(entries, found, path);
}
