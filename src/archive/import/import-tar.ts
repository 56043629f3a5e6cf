// SPDX-License-Identifier: MIT
// A tar of ours (formats/tar/SPEC.md) becomes a backup.
//
// Guarantee: nothing is imported unless the tar ends as it should, and its contents add up to the sum at its end.

import { createHash } from 'node:crypto';
import { type Extract, extract } from 'tar-stream';
import {
  configEntryName,
  decodeTarEnd,
  decodeTarHead,
  notOurs,
  parsePieceName,
  type TarHead,
} from '../../../formats/tar/head.js';
import { END_NAME, HEAD_NAME, MAX_END_BYTES, MAX_HEAD_BYTES } from '../../../formats/tar/limits.js';
import { CLUSTER_BYTES } from '../../../formats/vma/limits.js';
import { bytesEqual } from '../../base/bytes.js';
import { divideUp } from '../../base/checked.js';
import { DamageError, InterruptedError, VmarError } from '../../base/errors.js';
import type { BackupDescription } from '../../plugin-api.js';
import type { ByteStream } from './byte-stream.js';
import type { ImportPlace, ImportResult } from './import-place.js';
import type { ImportWish } from './import-vma.js';
import { SmallToSink } from './small-to-sink.js';

const ALL_BLOCKS = 0xffff;
const MAX_CONFIG_BYTES = 16 << 20;

interface Entry extends AsyncIterable<Uint8Array> {
  readonly header: {
    readonly name: string;
    readonly size?: number | undefined;
    readonly type?: string | null | undefined;
  };
}

export async function importTar(stream: ByteStream, wish: ImportWish, place: ImportPlace): Promise<ImportResult> {
  const reader = new TarReader(stream);
  try {
    const head = decodeTarHead(await reader.small(HEAD_NAME, MAX_HEAD_BYTES), stream.name);
    const configs: { name: string; content: Uint8Array }[] = [];
    for (const { name, sizeBytes } of head.configs) {
      const content = await reader.small(configEntryName(name), Math.min(sizeBytes, MAX_CONFIG_BYTES));
      if (content.byteLength !== sizeBytes) throw reader.damage(`the length of configuration file ${name} is wrong`);
      configs.push({ name, content });
    }
    const description = describe(head, configs, wish);
    return await place.add(description, async (sink, scratchDirectory) => {
      const devices = head.disks.map(({ sizeBytes }, id) => ({ id, sizeBytes }));
      const target = new SmallToSink(devices, sink, scratchDirectory);
      try {
        await sink.begin(description);
        await copyPieces(reader, head, target, place.options.signal);
        await target.flush();
        return await sink.finish();
      } catch (error) {
        target.close();
        await sink.abort();
        throw error;
      } finally {
        target.close();
      }
    });
  } finally {
    reader.close();
  }
}

function describe(head: TarHead, configs: BackupDescription['configs'], wish: ImportWish): BackupDescription {
  const { guestUuid, configs: _, ...plain } = head;
  return {
    ...plain,
    ...(guestUuid.byteLength === 0 ? {} : { guestUuid }),
    configs,
    ...(wish.guest === undefined ? {} : { namespace: wish.guest.namespace, guestId: wish.guest.guestId }),
    ...(wish.timeSeconds === undefined ? {} : { timeSeconds: wish.timeSeconds }),
  };
}

/** All entries up to the last one. What no piece holds is zeros. */
async function copyPieces(
  reader: TarReader,
  { disks }: TarHead,
  target: SmallToSink,
  signal: AbortSignal | undefined,
): Promise<void> {
  let disk = 0;
  let at = 0;
  const zerosTo = async (cluster: number): Promise<void> => {
    if (cluster > at) await target.zeros(disk, at, cluster - at);
    at = cluster;
  };
  const clustersOf = (which: number): number => divideUp(disks[which]?.sizeBytes ?? 0, CLUSTER_BYTES);
  for (let entry = await reader.next(); entry.header.name !== END_NAME; entry = await reader.next()) {
    if (signal?.aborted) throw new InterruptedError();
    const { name } = entry.header;
    const piece = parsePieceName(name);
    const found = piece === undefined ? -1 : disks.findIndex((each) => each.name === piece.disk);
    const sizeBytes = disks[found]?.sizeBytes;
    if (piece === undefined || sizeBytes === undefined) throw reader.damage(`the entry ${name} does not belong there`);
    for (; disk < found; disk++, at = 0) await zerosTo(clustersOf(disk));
    const first = piece.offsetBytes / CLUSTER_BYTES;
    const lengthBytes = entry.header.size ?? 0;
    const end = piece.offsetBytes + lengthBytes;
    const isWhole = end % CLUSTER_BYTES === 0 || end === sizeBytes;
    if (found < disk || first < at || lengthBytes === 0 || end > sizeBytes || !isWhole) {
      throw reader.damage(`the entry ${name} is not in its place, or of a wrong length`);
    }
    await zerosTo(first);
    for await (const cluster of reader.clusters(entry)) await target.data(disk, at++, ALL_BLOCKS, cluster);
  }
  for (; disk < disks.length; disk++, at = 0) await zerosTo(clustersOf(disk));
  await reader.end();
}

/** Entry by entry, with the sum of their contents. */
class TarReader {
  readonly #stream: ByteStream;
  readonly #tar: Extract = extract();
  readonly #entries: AsyncIterator<Entry>;
  readonly #sum = createHash('sha256');
  readonly #cluster = new Uint8Array(CLUSTER_BYTES);
  #count = 0;
  #fedBytes = 0;
  #last: Entry | undefined;
  #feedFailure: unknown;

  constructor(stream: ByteStream) {
    this.#stream = stream;
    this.#entries = this.#tar[Symbol.asyncIterator]() as AsyncIterator<Entry, undefined, undefined>;
    // What goes wrong is told to whoever waits for an entry.
    this.#tar.on('error', () => undefined);
    void this.#feed();
  }

  /** Never rejects. */
  async #feed(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#tar.once('close', () => resolve()));
    try {
      for (let piece = await this.#stream.next(); piece !== undefined; piece = await this.#stream.next()) {
        const bytes = Buffer.from(piece);
        this.#fedBytes += bytes.byteLength;
        if (this.#tar.destroyed) return;
        if (this.#tar.write(bytes)) continue;
        await Promise.race([closed, new Promise<void>((resolve) => this.#tar.once('drain', () => resolve()))]);
      }
      this.#tar.end(null);
    } catch (error) {
      this.#feedFailure = error;
      this.#tar.destroy();
    }
  }

  /** @throws DamageError if there is none */
  async next(): Promise<Entry> {
    try {
      const { value, done } = await this.#entries.next();
      if (this.#feedFailure !== undefined) throw this.#feedFailure;
      if (done === true) throw this.#cut();
      if (value.header.type !== 'file') throw this.#noFile(value.header.name);
      this.#last = value;
      if (value.header.name !== END_NAME) this.#count++;
      return value;
    } catch (error) {
      throw this.#worded(error);
    }
  }

  /** A whole entry of that name. */
  async small(name: string, mostBytes: number): Promise<Uint8Array> {
    const entry = await this.next();
    if (entry.header.name !== name) {
      if (name === HEAD_NAME) throw notOurs(this.#stream.name);
      throw this.damage(`the entry ${name} is missing`);
    }
    return await this.#whole(entry, mostBytes);
  }

  async #whole(entry: Entry, mostBytes: number, isSummed = true): Promise<Uint8Array> {
    if ((entry.header.size ?? 0) > mostBytes) throw this.damage(`the entry ${entry.header.name} is too large`);
    const parts: Uint8Array[] = [];
    for await (const part of this.#parts(entry, isSummed)) parts.push(part);
    return Buffer.concat(parts);
  }

  async *#parts(entry: Entry, isSummed: boolean): AsyncGenerator<Uint8Array> {
    try {
      for await (const part of entry) {
        if (isSummed) this.#sum.update(part);
        yield part;
      }
      if (this.#feedFailure !== undefined) throw this.#feedFailure;
    } catch (error) {
      throw this.#worded(error);
    }
  }

  /** The entry in pieces of a cluster, the last one filled up with zeros; each valid until the next. */
  async *clusters(entry: Entry): AsyncGenerator<Uint8Array> {
    let filled = 0;
    for await (const part of this.#parts(entry, true)) {
      for (let done = 0; done < part.byteLength; ) {
        const some = part.subarray(done, done + CLUSTER_BYTES - filled);
        this.#cluster.set(some, filled);
        filled += some.byteLength;
        done += some.byteLength;
        if (filled < CLUSTER_BYTES) continue;
        filled = 0;
        yield this.#cluster;
      }
    }
    if (filled > 0) yield this.#cluster.fill(0, filled);
  }

  /** To be called when the last entry has come: compares what it says. */
  async end(): Promise<void> {
    const last = this.#last;
    if (last === undefined) throw this.#cut();
    const { entries, sha256 } = decodeTarEnd(await this.#whole(last, MAX_END_BYTES, false), this.#stream.name);
    if (entries !== this.#count) throw this.damage(`it should hold ${entries} entries and holds ${this.#count}`);
    if (!bytesEqual(this.#sum.digest(), sha256)) throw this.damage('the checksum of its contents does not match');
    const after = await this.#entries.next().catch(() => ({ done: false }));
    if (this.#feedFailure !== undefined) throw this.#feedFailure;
    if (after.done !== true) throw this.damage('something follows its last entry');
  }

  damage(what: string): DamageError {
    return new DamageError('tar-damaged', `the archive is damaged: ${what}`, { object: this.#stream.name });
  }

  /** Ours begins with a file. */
  #noFile(name: string): VmarError {
    return this.#count === 0 ? notOurs(this.#stream.name) : this.damage(`the entry ${name} is no file`);
  }

  #cut(): DamageError {
    return new DamageError('tar-cut', 'the archive ends too early', {
      ...{ object: this.#stream.name, offsetBytes: this.#fedBytes },
      advice: 'Fetch the file again: it is not whole.',
    });
  }

  #worded(error: unknown): unknown {
    const reason = this.#feedFailure ?? error;
    if (reason instanceof VmarError) return reason;
    const why = reason instanceof Error ? reason.message : String(reason);
    return /unexpected end/i.test(why) ? this.#cut() : this.damage(why);
  }

  close(): void {
    this.#tar.destroy();
  }
}
