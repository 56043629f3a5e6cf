// SPDX-License-Identifier: MIT
// A sink that writes a backup as a tar (formats/tar/SPEC.md).

import { createHash } from 'node:crypto';
import { type Pack, pack } from 'tar-stream';
import { configEntryName, encodeTarEnd, encodeTarHead, pieceEntryName } from '../../formats/tar/head.js';
import { END_NAME, HEAD_NAME, PIECE_ALIGNMENT_BYTES } from '../../formats/tar/limits.js';
import { BufferPool } from '../../src/base/buffer-pool.js';
import { divideUp } from '../../src/base/checked.js';
import { BugError, FailedError, UsageError } from '../../src/base/errors.js';
import { InTurn } from '../../src/base/in-turn.js';
import { StepChain } from '../../src/base/step-chain.js';
import {
  type BackupDescription,
  type DiskCounts,
  type DumpResult,
  type DumpSink,
  SAME_AS_PARENT,
  type SinkOutput,
  ZERO,
} from '../../src/plugin-api.js';

const SLOT_BYTES = 1 << 20;
const SLOTS = 16;
/** The library puts no later ones into a header: 2038. The time of the backup stands in the head. */
const MOST_MTIME_SECONDS = 2 ** 31 - 1;

interface Disk {
  readonly name: string;
  readonly sizeBytes: number;
  readonly counts: { readBytes: number; zeroBytes: number };
  readonly inTurn: InTurn;
}

export function createTarSink(options: { readonly output: SinkOutput }): DumpSink {
  return new TarSink(options.output);
}

/**
 * Disks must come one after another, the clusters of each ahead of their turn by no more than the sink has slots. Lengths
 * must be known from the beginning.
 */
class TarSink implements DumpSink {
  readonly clusterSizeBytes = PIECE_ALIGNMENT_BYTES;
  readonly slotBytes = SLOT_BYTES;
  readonly #output: SinkOutput;
  readonly #pool = new BufferPool(SLOTS, SLOT_BYTES);
  readonly #tar: Pack = pack();
  readonly #sum = createHash('sha256');
  readonly #written: Promise<void>;
  #entries = 0;
  /** Of all entries. */
  #mtime = new Date(0);
  #disks: Disk[] = [];
  #isEnded = false;
  /** One entry after another. */
  readonly #chain = new StepChain((error) => {
    this.#pool.fail(error);
    // Whoever waits for room in it is not to wait for ever.
    this.#tar.destroy();
  });

  constructor(output: SinkOutput) {
    this.#output = output;
    this.#written = this.#writeAll().catch((error: unknown) => this.#chain.fail(error));
  }

  /** What the tar becomes goes to the output as it comes; entries wait while it does. */
  async #writeAll(): Promise<void> {
    for await (const bytes of this.#tar) await this.#output.write(bytes as Uint8Array);
  }

  async begin(backup: BackupDescription): Promise<void> {
    const none = new Uint8Array(0);
    const { namespace, guestId, guestName = '', guestUuid = none, timeSeconds, source, consistency } = backup;
    const { sourceUuid = new Uint8Array(16), labels = new Map(), notes = '', isProtected = false, configs } = backup;
    const disks = backup.disks.map(({ name, kind, sizeBytes }) => {
      if (sizeBytes !== undefined) return { name, kind, sizeBytes };
      throw new UsageError('tar-stream', `disk ${name} is of unknown length: a tar holds none of those`);
    });
    this.#mtime = new Date(Math.min(timeSeconds, MOST_MTIME_SECONDS) * 1000);
    this.#disks = disks.map(({ name, sizeBytes }) => {
      return { name, sizeBytes, counts: { readBytes: 0, zeroBytes: 0 }, inTurn: new InTurn() };
    });
    const head = encodeTarHead({
      ...{ namespace, guestId, guestName, guestUuid, timeSeconds, source, sourceUuid, consistency, disks },
      configs: configs.map(({ name, content }) => ({ name, sizeBytes: content.byteLength })),
      ...{ labels, notes, isProtected },
    });
    this.#chain.add(async () => {
      await this.#put(HEAD_NAME, head);
      for (const { name, content } of configs) await this.#put(configEntryName(name), content);
    });
    await this.#chain.settled();
  }

  hasParent(): boolean {
    return false;
  }

  lease(): Promise<Uint8Array> {
    return this.#pool.lease();
  }

  release(slot: Uint8Array): void {
    this.#pool.release(slot);
  }

  async dump(disk: number, cluster: number, bytes: Uint8Array | typeof ZERO): Promise<void> {
    if (bytes === ZERO) {
      await this.dumpRange(disk, cluster, 1, ZERO);
      return;
    }
    try {
      this.#chain.check();
      const kept = this.#pool.isLeased(bytes) ? bytes : Uint8Array.from(bytes);
      const { name, counts, inTurn } = this.#disk(disk);
      counts.readBytes += bytes.byteLength;
      const step = async () => {
        try {
          // The tar keeps what it is given until it is written, which nobody tells.
          await this.#put(pieceEntryName(name, cluster * PIECE_ALIGNMENT_BYTES), Buffer.from(kept));
        } finally {
          this.#pool.release(kept);
        }
      };
      inTurn.add(cluster, divideUp(bytes.byteLength, PIECE_ALIGNMENT_BYTES), () => this.#chain.add(step));
    } catch (error) {
      this.#pool.release(bytes);
      throw error;
    }
  }

  async dumpRange(
    disk: number,
    firstCluster: number,
    count: number,
    content: typeof ZERO | typeof SAME_AS_PARENT,
  ): Promise<void> {
    this.#chain.check();
    if (content === SAME_AS_PARENT) throw new UsageError('no-parent', 'a tar has no parent');
    const { sizeBytes, counts, inTurn } = this.#disk(disk);
    const end = Math.min(sizeBytes, (firstCluster + count) * PIECE_ALIGNMENT_BYTES);
    counts.zeroBytes += end - firstCluster * PIECE_ALIGNMENT_BYTES;
    inTurn.add(firstCluster, count, () => undefined);
  }

  async endStream(): Promise<void> {
    throw new BugError('a tar has no streams of unknown length');
  }

  async finish(): Promise<DumpResult> {
    this.#chain.add(async () => {
      await this.#put(END_NAME, encodeTarEnd({ entries: this.#entries, sha256: this.#sum.copy().digest() }));
      this.#tar.finalize();
      await this.#written;
      this.#chain.check();
      await this.#output.finish();
    });
    await this.#chain.settled();
    this.#isEnded = true;
    return { backup: this.#output.name, disks: this.#disks.map(countsOf) };
  }

  async abort(): Promise<void> {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#chain.fail(new FailedError('aborted', 'the archive was given up'));
    this.#tar.destroy();
    await this.#chain.ended();
    await this.#written;
    await this.#output.abort();
  }

  async #put(name: string, content: Uint8Array): Promise<void> {
    this.#sum.update(content);
    this.#entries++;
    await new Promise<void>((resolve, reject) => {
      const header = { name, size: content.byteLength, mode: 0o600, mtime: this.#mtime };
      const entry = this.#tar.entry(header, (error) => {
        if (error) reject(this.#chain.failure?.error ?? error);
        else resolve();
      });
      entry.end(content);
    });
  }

  #disk(index: number): Disk {
    const disk = this.#disks[index];
    if (disk === undefined) throw new UsageError('no-such-disk', `the backup has no disk number ${index}`);
    return disk;
  }
}

/** All that is not zero is new to a file that stands alone. */
function countsOf({ name, sizeBytes, counts }: Disk): DiskCounts {
  const fresh = sizeBytes - counts.zeroBytes;
  return { name, sizeBytes, ...counts, unchangedBytes: 0, newBytes: fresh, storedBytes: fresh };
}
