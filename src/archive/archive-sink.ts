// SPDX-License-Identifier: MIT
// The DumpSink that makes backups: clusters in, new chunks into frames, ids into maps, one manifest at the end.
//
// Guarantees, as DumpSink states them: nothing is visible before `finish` resolves, everything is durable after it.
// Clusters are looked at in the order in which they were dumped, so frames lie in the order of the disk.

import type { ChunkEntry } from '../../formats/vmar/extent.js';
import { chunkContext, createHasher, type Hasher } from '../../formats/vmar/hash.js';
import { clusterCount } from '../../formats/vmar/map.js';
import { BugError, FailedError, UsageError } from '../base/errors.js';
import { readAhead } from '../base/syscalls.js';
import type { CompressedFrame, Executor, IntakeResult } from '../pipeline/executor.js';
import type { Slot, SlotPool } from '../pipeline/slots.js';
import type { BackupDescription, BlockDevice, DumpResult, DumpSink } from '../plugin-api.js';
import { type SAME_AS_PARENT, ZERO } from '../plugin-api.js';
import { countedOutput } from './counted-output.js';
import { DiskIntake } from './disk-intake.js';
import { Foresight } from './foresight.js';
import { FrameBuilder, type NewChunk } from './frame-builder.js';
import { draftManifest } from './manifest-draft.js';
import { Scratch } from './scratch.js';
import type { Vault } from './vault.js';

/** The slots and threads that a sink works with; they are the caller's, and may serve one sink after another. */
export interface SinkMachine {
  readonly executor: Executor;
  /** What sources fill. */
  readonly sourceSlots: SlotPool;
  readonly gatherSlots: SlotPool;
  readonly frameSlots: SlotPool;
  readonly dataFrameBytes: number;
}

/** Ids do not compress, so a larger frame of map pages would only cost more to read one of them. */
const MAP_FRAME_BYTES = 128 * 1024;

/** A frame that was compressed together with the hashing of its slot. */
interface ReadyFrame {
  /** undefined if there is none. */
  frame: CompressedFrame | undefined;
  readonly into: Slot | undefined;
  /** Whether it was taken into use: then its slot is no longer the sink's. */
  taken: boolean;
}

type FileBacked = BlockDevice & { fd: number };

type State = 'new' | 'open' | 'failed' | 'ended';

export class ArchiveSink implements DumpSink {
  readonly clusterSizeBytes: number;
  readonly slotBytes: number;
  readonly #vault: Vault;
  readonly #machine: SinkMachine;
  readonly #data: FrameBuilder;
  readonly #maps: FrameBuilder;
  readonly #pageHashers: Hasher[] = [];
  #foresight: Foresight;
  #state: State = 'new';
  #failure: unknown;
  #backup: BackupDescription | undefined;
  #timeSeconds = 0;
  #startedMillis = 0;
  #disks: DiskIntake[] = [];
  #scratches: Scratch[] = [];
  /** Everything that was dumped is looked at one after another on this chain; it never rejects. */
  #chain: Promise<void> = Promise.resolve();

  constructor(vault: Vault, machine: SinkMachine) {
    this.#vault = vault;
    this.#machine = machine;
    this.clusterSizeBytes = vault.clusterSizeBytes;
    this.slotBytes = machine.sourceSlots.slotBytes;
    const { executor, gatherSlots, frameSlots, dataFrameBytes } = machine;
    this.#foresight = new Foresight(frameSlots, false);
    const shared = { executor, gatherSlots, frameSlots };
    this.#data = new FrameBuilder({
      ...shared,
      output: countedOutput(vault.dataFrames, (index) => this.#disks[index]),
      frameBytes: dataFrameBytes,
    });
    this.#maps = new FrameBuilder({ ...shared, output: vault.mapFrames, frameBytes: MAP_FRAME_BYTES });
  }

  async begin(backup: BackupDescription): Promise<void> {
    if (this.#state !== 'new') throw new BugError('a sink takes one backup');
    this.#state = 'open';
    this.#backup = backup;
    this.#startedMillis = Date.now();
    await this.#guard(async () => {
      const { timeSeconds, parents } = await this.#vault.begin(backup);
      this.#timeSeconds = timeSeconds;
      this.#foresight = new Foresight(
        this.#machine.frameSlots,
        parents.every((parent) => parent === undefined),
      );
      this.#disks = backup.disks.map((description, index) => {
        const scratch = new Scratch(this.#vault.scratchDirectory);
        this.#scratches.push(scratch);
        const { clusterSizeBytes, fanout } = this.#vault;
        const onPage = (level: number, page: number, bytes: Uint8Array) => this.#takePage(index, level, page, bytes);
        return new DiskIntake({ description, clusterSizeBytes, fanout, scratch, parent: parents[index], onPage });
      });
    });
  }

  hasParent(disk: number): boolean {
    return this.#disk(disk).parent !== undefined;
  }

  async lease(): Promise<Uint8Array> {
    this.#checkOpen();
    const slot = await this.#machine.sourceSlots.acquire();
    if (this.#state !== 'open') {
      slot.release();
      this.#checkOpen();
    }
    return slot.bytes;
  }

  release(slot: Uint8Array): void {
    this.#leased(slot)?.release();
  }

  #leased(bytes: Uint8Array): Slot | undefined {
    const pool = this.#machine.sourceSlots;
    const index = pool.indexOf(bytes);
    return index === undefined ? undefined : pool.slot(index);
  }

  async dump(disk: number, cluster: number, bytes: Uint8Array | typeof ZERO): Promise<void> {
    if (bytes === ZERO) return await this.dumpRange(disk, cluster, 1, ZERO);
    const slot = this.#leased(bytes);
    if (slot === undefined) return await this.#dumpForeign(disk, cluster, bytes);
    try {
      this.#checkOpen();
      this.#disk(disk).checkPiece(cluster, bytes.byteLength);
    } catch (error) {
      slot.release();
      throw error;
    }
    this.#takeIn(disk, cluster, slot, bytes.byteLength, undefined);
  }

  async dumpFrom(disk: number, cluster: number, lengthBytes: number, device: FileBacked): Promise<void> {
    this.#checkOpen();
    this.#disk(disk).checkPiece(cluster, lengthBytes);
    readAhead(device.fd, cluster * this.clusterSizeBytes, lengthBytes);
    const leased = await this.lease();
    this.#takeIn(disk, cluster, this.#leased(leased)!, lengthBytes, device);
  }

  /** Has a slot read (if it comes from a device), hashed and maybe compressed, and queues what follows. Takes the slot. */
  #takeIn(disk: number, cluster: number, slot: Slot, lengthBytes: number, device: FileBacked | undefined): void {
    const into = this.#foresight.take();
    const offsetBytes = cluster * this.clusterSizeBytes;
    const request = {
      ...(into === undefined ? {} : { into }),
      ...(device === undefined ? {} : { from: { fd: device.fd, offsetBytes } }),
    };
    const taken = this.#machine.executor.intake(slot, lengthBytes, request);
    taken.catch(() => {});
    this.#queue(async () => {
      const ready: ReadyFrame = { frame: undefined, into, taken: false };
      try {
        ready.frame = (await this.#readOtherwise(taken, slot, lengthBytes, offsetBytes, device)).frame;
        if (this.#state === 'open') await this.#takeClusters(disk, cluster, slot, lengthBytes, ready);
      } finally {
        slot.release();
        if (!ready.taken) into?.release();
        if (into !== undefined) this.#foresight.settle();
      }
    });
  }

  /** Where a worker could not read all of it, the device itself does, or says why not. */
  async #readOtherwise(
    taken: Promise<IntakeResult>,
    slot: Slot,
    lengthBytes: number,
    offsetBytes: number,
    device: FileBacked | undefined,
  ): Promise<Pick<IntakeResult, 'frame'>> {
    if (device === undefined) return await taken;
    const result = await taken.catch(() => undefined);
    if (result?.readBytes === lengthBytes) return result;
    await device.read(offsetBytes, slot.bytes.subarray(0, lengthBytes));
    await this.#machine.executor.hashSlot(slot, lengthBytes);
    return { frame: undefined };
  }

  async #dumpForeign(disk: number, cluster: number, bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.byteLength; at += this.slotBytes) {
      const piece = bytes.subarray(at, at + this.slotBytes);
      const slot = await this.lease();
      slot.set(piece);
      await this.dump(disk, cluster + at / this.clusterSizeBytes, slot.subarray(0, piece.byteLength));
    }
  }

  async dumpRange(
    disk: number,
    firstCluster: number,
    count: number,
    content: typeof ZERO | typeof SAME_AS_PARENT,
  ): Promise<void> {
    this.#checkOpen();
    const intake = this.#disk(disk);
    this.#queue(async () => {
      if (this.#state !== 'open') return;
      if (content === ZERO) {
        await intake.setZeroRange(firstCluster, count);
        intake.zeroBytes += intake.rangeBytes(firstCluster, count);
      } else {
        await intake.setParentRange(firstCluster, count);
        this.#vault.noteParent();
        intake.unchangedBytes += intake.rangeBytes(firstCluster, count);
      }
    });
  }

  async endStream(disk: number, sizeBytes: number): Promise<void> {
    this.#checkOpen();
    const intake = this.#disk(disk);
    this.#queue(async () => await intake.endStream(sizeBytes));
  }

  async finish(): Promise<DumpResult> {
    this.#checkOpen();
    await this.#chain;
    return await this.#guard(async () => {
      this.#checkOpen();
      const roots: Uint8Array[] = [];
      for (const disk of this.#disks) roots.push(await disk.finish());
      await this.#data.finish();
      await this.#maps.finish();
      const made = { timeSeconds: this.#timeSeconds, startedMillis: this.#startedMillis };
      const backup = await this.#vault.commit(draftManifest(this.#backup!, this.#vault, this.#disks, roots, made));
      this.#end('ended');
      return { backup, disks: this.#disks.map((disk) => disk.counts()) };
    });
  }

  async abort(): Promise<void> {
    if (this.#state === 'ended') return;
    if (this.#state === 'open') this.#state = 'failed';
    this.#failure ??= new FailedError('aborted', 'the backup was aborted');
    await this.#chain;
    await this.#data.abandon();
    await this.#maps.abandon();
    await this.#vault.abort();
    this.#end('ended');
  }

  #end(state: State): void {
    this.#state = state;
    for (const scratch of this.#scratches) scratch.close();
  }

  /** Runs a step; its failure is the sink's. */
  async #guard<Result>(step: () => Promise<Result>): Promise<Result> {
    try {
      return await step();
    } catch (error) {
      this.#fail(error);
      throw error;
    }
  }

  #queue(step: () => Promise<void>): void {
    this.#chain = this.#chain.then(step).catch((error: unknown) => this.#fail(error));
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    if (this.#state === 'open') this.#state = 'failed';
  }

  #checkOpen(): void {
    if (this.#state === 'open') return;
    if (this.#failure !== undefined) throw this.#failure;
    throw new BugError('the sink is not open');
  }

  #disk(index: number): DiskIntake {
    const disk = this.#disks[index];
    if (disk === undefined) throw new UsageError('no-such-disk', `the backup has no disk number ${index}`);
    return disk;
  }

  /**
   * Looks at the hashed clusters of one slot: zero, as in the parent, known, or new. Takes `ready`, the frame of all that
   * is not zero, into use if all of that is new.
   */
  async #takeClusters(
    diskIndex: number,
    first: number,
    slot: Slot,
    lengthBytes: number,
    ready: ReadyFrame,
  ): Promise<void> {
    const disk = this.#disk(diskIndex);
    const { clusterSizeBytes } = this;
    const count = clusterCount(lengthBytes, clusterSizeBytes);
    const parents = disk.parent === undefined ? undefined : await disk.parentPages(first, count);
    const fanout = this.#vault.fanout;
    const fresh: NewChunk[] = [];
    let sameAsParent = false;
    let known = 0;
    for (let i = 0; i < count; i++) {
      const offsetBytes = i * clusterSizeBytes;
      const bytes = Math.min(clusterSizeBytes, lengthBytes - offsetBytes);
      const cluster = first + i;
      if (slot.flags[i] === 1) {
        disk.set(cluster, undefined);
        disk.zeroBytes += bytes;
        continue;
      }
      const id = slot.ids.subarray(i * 32, i * 32 + 32);
      disk.set(cluster, id);
      const page = parents?.get(Math.floor(cluster / fanout));
      const isSame = page instanceof Uint8Array && sameId(page, (cluster % fanout) * 32, slot.ids, i * 32);
      if (isSame && !this.#vault.isLost(id)) {
        disk.unchangedBytes += bytes;
        sameAsParent = true;
        known++;
      } else if (this.#vault.has(id)) {
        known++;
      } else {
        const entry = newEntry(id, bytes, diskIndex, cluster);
        this.#vault.note(entry.id);
        disk.newBytes += bytes;
        fresh.push({ offsetBytes, entry });
      }
    }
    disk.readBytes += lengthBytes;
    if (sameAsParent) this.#vault.noteParent();
    if (known > 0 || fresh.length > 0) this.#foresight.learn(known === 0);
    if (known === 0 && fresh.length > 0 && ready.frame !== undefined && ready.into !== undefined) {
      await this.#data.addFrame(ready.frame, ready.into, entriesOf(fresh));
      ready.taken = true;
    } else if (fresh.length > 0) {
      await this.#data.addFromSlot(slot, lengthBytes, fresh);
    }
    await disk.settle();
  }

  async #takePage(diskIndex: number, level: number, index: number, page: Uint8Array): Promise<Uint8Array> {
    const id = this.#pageHasher(level).digest(page);
    const parent = this.#disk(diskIndex).parent;
    if (parent !== undefined && !this.#vault.isLost(id) && (await parent.hasPage(level, index, id))) {
      this.#vault.noteParent();
      return id;
    }
    if (!this.#vault.has(id)) {
      this.#vault.note(id);
      const entry: ChunkEntry = { id, lengthBytes: page.byteLength, kind: level, disk: diskIndex, where: index };
      await this.#maps.addCopy(page, entry);
    }
    return id;
  }

  #pageHasher(level: number): Hasher {
    this.#pageHashers[level] ??= createHasher(this.#vault.hash, chunkContext(level));
    return this.#pageHashers[level]!;
  }
}

function entriesOf(chunks: readonly NewChunk[]): ChunkEntry[] {
  return chunks.map((chunk) => chunk.entry);
}

/** The chunk's id is copied: the slot that it was hashed into is used again. */
function newEntry(id: Uint8Array, lengthBytes: number, disk: number, where: number): ChunkEntry {
  return { id: Uint8Array.prototype.slice.call(id), lengthBytes, kind: 0, disk, where };
}

function sameId(a: Uint8Array, aOffset: number, b: Uint8Array, bOffset: number): boolean {
  for (let i = 0; i < 32; i++) if (a[aOffset + i] !== b[bOffset + i]) return false;
  return true;
}
