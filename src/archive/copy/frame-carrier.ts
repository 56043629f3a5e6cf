// SPDX-License-Identifier: MIT
// Brings frames from one datastore to another. Large ones that are wanted whole go as they are stored; of the others the
// chunks that are wanted are joined to new frames.
//
// Guarantee: every chunk that is handed on was checked against its id by the bytes that are handed on. One of which no
// good copy is at the source is a DamageError.

import type { ChunkEntry } from '../../../formats/vmar/extent.js';
import { DamageError, FailedError, VmarError } from '../../base/errors.js';
import type { LoadJob, LoadReport } from '../../pipeline/executor.js';
import type { Slot } from '../../pipeline/slots.js';
import type { SinkMachine } from '../archive-sink.js';
import type { ChunkReader } from '../chunk-reader.js';
import type { FrameBuilder, FrameOutput } from '../frame-builder.js';
import type { FrameWant, WantedChunk } from './frame-wants.js';

/** A stored frame that fills less of its slot than this moves to memory of its own, so that the slot is free again. */
const SMALL_FRAME = 0.25;
/** Frames under way at once; of the slots for frames no more than a third, or joining frames would wait for ever. */
const MOST_UNDER_WAY = 12;
const SHARE_UNDER_WAY = 1 / 3;

export interface CarrierOptions {
  /** Its threads check; of the source's hash, and so of the destination's. */
  readonly machine: SinkMachine;
  /** For chunks that are not good where they should be. */
  readonly reader: ChunkReader;
  /** Joins parts of frames; its frames go to `output`. */
  readonly builder: FrameBuilder;
  readonly output: FrameOutput;
  /** Where a chunk lies in its backup, for messages. */
  readonly nameOf: (chunk: ChunkEntry) => string;
}

export class FrameCarrier {
  readonly #options: CarrierOptions;
  readonly #memories: SharedArrayBuffer[] = [];
  readonly #underWay = new Set<Promise<void>>();
  #last: Promise<void> = Promise.resolve();
  #failure: { readonly error: unknown } | undefined;
  /** Frames that went as they were, and those of which parts went. */
  readonly counts = { whole: 0, parts: 0 };

  readonly #mostUnderWay: number;

  constructor(options: CarrierOptions) {
    this.#options = options;
    const share = Math.floor(options.machine.frameSlots.count * SHARE_UNDER_WAY);
    this.#mostUnderWay = Math.max(1, Math.min(MOST_UNDER_WAY, share));
  }

  /** Takes a frame in hand; resolves when there is room for the next. Calls must not overlap. @throws what failed */
  async add(want: FrameWant): Promise<void> {
    await this.#room();
    const { frame, isWhole } = want;
    const { frameSlots, dataFrameBytes } = this.#options.machine;
    const isWorth = frame.rawBytes * 2 >= dataFrameBytes && frame.storedBytes <= frameSlots.slotBytes;
    if (isWhole && isWorth) await this.#addWhole(want);
    else this.#addParts(want);
  }

  /** The same for a chunk of which no place is known: it is looked for everywhere. */
  async addStray(entry: ChunkEntry): Promise<void> {
    await this.#room();
    const nowhere = { problem: 'read-error' as const, good: Uint8Array.of(0) };
    this.#step(Promise.resolve(nowhere), async (settled) => {
      if (settled !== undefined) await this.#takeParts([{ entry, offsetBytes: 0 }], undefined, nowhere);
    });
  }

  async #room(): Promise<void> {
    this.#check();
    while (this.#underWay.size >= this.#mostUnderWay) await Promise.race(this.#underWay);
    this.#check();
  }

  /** Resolves when all is handed on. @throws what failed */
  async finish(): Promise<void> {
    await this.#last;
    this.#check();
  }

  /** Waits for what is under way. */
  async abandon(): Promise<void> {
    this.#fail(new FailedError('abandoned', 'the copy was abandoned'));
    await this.#last;
  }

  async #addWhole(want: FrameWant): Promise<void> {
    const { machine } = this.#options;
    const slot = await machine.frameSlots.acquire();
    const report = this.#read(want, (job) => machine.executor.carry({ ...job, into: slot }));
    this.#step(report, async (settled) => {
      // Not before the reading has ended: a thread may write to the slot.
      if (settled === undefined || !isGood(settled)) {
        slot.release();
        if (settled !== undefined) await this.#takeParts(want.chunks, undefined, settled);
      } else await this.#handOn(want, slot);
    });
  }

  async #handOn({ frame, chunks }: FrameWant, slot: Slot): Promise<void> {
    const { codec, storedBytes, rawBytes, seal, chunkCount } = frame;
    const entry = { codec, storedBytes, rawBytes, seal: Uint8Array.from(seal), chunkCount };
    const entries = chunks.map((chunk) => chunk.entry);
    const stored = slot.bytes.subarray(0, storedBytes);
    this.counts.whole++;
    if (storedBytes < SMALL_FRAME * slot.bytes.byteLength) {
      const bytes = Buffer.from(stored);
      slot.release();
      await this.#options.output.add({ entry, bytes, chunks: entries }, () => {});
    } else await this.#options.output.add({ entry, bytes: stored, chunks: entries }, () => slot.release());
  }

  #addParts(want: FrameWant): void {
    const { machine } = this.#options;
    const memory = this.#memoryOf(want.frame.rawBytes);
    const report = this.#read(want, (job) => machine.executor.load({ ...job, memory }));
    this.#step(report, async (settled) => {
      if (settled !== undefined) await this.#takeParts(want.chunks, memory, settled);
      this.#memories.push(memory);
    });
  }

  #memoryOf(lengthBytes: number): SharedArrayBuffer {
    const memory = this.#memories.pop();
    const { dataFrameBytes } = this.#options.machine;
    return memory !== undefined && memory.byteLength >= lengthBytes
      ? memory
      : new SharedArrayBuffer(Math.max(lengthBytes, dataFrameBytes));
  }

  async #takeParts(
    chunks: readonly WantedChunk[],
    memory: SharedArrayBuffer | undefined,
    { good }: LoadReport,
  ): Promise<void> {
    const { builder } = this.#options;
    this.counts.parts++;
    for (const [index, { entry, offsetBytes }] of chunks.entries()) {
      const bytes =
        memory !== undefined && good[index] === 1
          ? new Uint8Array(memory, offsetBytes, entry.lengthBytes)
          : await this.#search(entry);
      await builder.addCopy(bytes, entry);
    }
  }

  async #search(entry: ChunkEntry): Promise<Uint8Array> {
    const { reader, nameOf } = this.#options;
    try {
      return await reader.read(entry.id, entry.kind);
    } catch (error) {
      if (!(error instanceof DamageError)) throw error;
      const { code, message, object, offsetBytes } = error;
      throw new DamageError(code, `${nameOf(entry)} cannot be copied: ${message}`, {
        ...(object === undefined ? {} : { object }),
        ...(offsetBytes === undefined ? {} : { offsetBytes }),
        advice: 'Run `vmar verify` there to see all that is damaged.',
        cause: error,
      });
    }
  }

  /** Chunks of what cannot be read at all count as not good: they are looked for elsewhere then. */
  async #read(
    { container, frame, chunks }: FrameWant,
    read: (job: Omit<LoadJob, 'memory'>) => Promise<LoadReport>,
  ): Promise<LoadReport> {
    const nothing = { problem: 'read-error' as const, good: new Uint8Array(chunks.length) };
    try {
      container.pin();
    } catch (error) {
      if (error instanceof VmarError) return nothing;
      throw error;
    }
    try {
      const wanted = chunks.map(({ entry, offsetBytes }) => {
        return { offsetInFrame: offsetBytes, lengthBytes: entry.lengthBytes, id: entry.id, kind: entry.kind };
      });
      return await read({ fd: container.fd, object: container.path, frame, chunks: wanted });
    } finally {
      container.unpin();
    }
  }

  /** In the order of the calls, each when its frame was read; gets undefined where all is given up. Never rejects. */
  #step(report: Promise<LoadReport>, take: (report: LoadReport | undefined) => Promise<void>): void {
    report.catch(() => {});
    const done = this.#last.then(async () => {
      try {
        const settled = await report.catch((error: unknown) => this.#fail(error));
        await take(this.#failure === undefined ? settled : undefined);
      } catch (error) {
        this.#fail(error);
      }
    });
    this.#last = done;
    this.#underWay.add(done);
    void done.then(() => this.#underWay.delete(done));
  }

  #fail(error: unknown): undefined {
    this.#failure ??= { error };
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}

function isGood({ problem, good }: LoadReport): boolean {
  return problem === undefined && good.every((each) => each === 1);
}
