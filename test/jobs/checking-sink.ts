// SPDX-License-Identifier: MIT
// A DumpSink that keeps what it gets and notes every breach of the protocol.

import { setImmediate as turn } from 'node:timers/promises';
import { type BackupDescription, type DumpResult, type DumpSink, SAME_AS_PARENT, ZERO } from '#vmar/src/plugin-api.js';
import type { Random } from '../base/random.js';

export type SinkCall = 'begin' | 'lease' | 'dump' | 'dumpRange' | 'finish' | 'abort';

export interface CheckingSinkOptions {
  readonly clusterSizeBytes: number;
  readonly slotBytes: number;
  readonly slots: number;
  /** Draws how many turns of the event loop things take; without it, none. */
  readonly random?: Random;
  /** The call that fails, or never settles, and how often it works before. */
  /** Contents of the parent's disks; undefined for a disk that has none. */
  readonly parents?: readonly (Uint8Array | undefined)[];
  readonly fault?: { readonly call: SinkCall; readonly after: number; readonly hangs?: boolean };
}

interface HeldSlot {
  readonly bytes: Uint8Array;
  owner: 'free' | 'caller' | 'sink';
}

/** What was dumped, to be compared with the disk. */
export interface DumpedDisk {
  readonly sizeBytes: number;
  readonly clusters: Map<number, Uint8Array>;
  readonly zeroRanges: { readonly first: number; readonly count: number }[];
  readonly keptRanges: { readonly first: number; readonly count: number }[];
}

export class SinkFault extends Error {}

export class CheckingSink implements DumpSink {
  readonly clusterSizeBytes: number;
  readonly slotBytes: number;
  readonly breaches: string[] = [];
  readonly disks: DumpedDisk[] = [];
  readonly calls = new Map<SinkCall, number>();
  state: 'new' | 'begun' | 'finished' | 'aborted' = 'new';
  mostLeased = 0;
  readonly #slots: HeldSlot[];
  readonly #waiting: { grant: (slot: Uint8Array) => void; refuse: (error: Error) => void }[] = [];
  readonly #options: CheckingSinkOptions;
  #broken = false;
  #dumping = 0;

  constructor(options: CheckingSinkOptions) {
    this.#options = options;
    this.clusterSizeBytes = options.clusterSizeBytes;
    this.slotBytes = options.slotBytes;
    // Shared memory and an odd start, as the real sink's slots may have.
    const memory = new SharedArrayBuffer(16 + options.slots * options.slotBytes);
    this.#slots = Array.from({ length: options.slots }, (_, at) => ({
      bytes: new Uint8Array(memory, 16 + at * options.slotBytes, options.slotBytes).fill(0xee),
      owner: 'free',
    }));
  }

  /** Whether it failed a call. */
  get isBroken(): boolean {
    return this.#broken;
  }

  /** Slots that are with the caller. */
  get leased(): number {
    return this.#slots.filter((slot) => slot.owner === 'caller').length;
  }

  get inUse(): number {
    return this.#slots.filter((slot) => slot.owner !== 'free').length;
  }

  async begin(backup: BackupDescription): Promise<void> {
    this.#expect(this.state === 'new', 'begin comes first, and once');
    this.state = 'begun';
    for (const { sizeBytes } of backup.disks) {
      this.disks.push({ sizeBytes: sizeBytes ?? 0, clusters: new Map(), zeroRanges: [], keptRanges: [] });
    }
    await this.#call('begin');
  }

  hasParent(disk: number): boolean {
    this.#expect(this.state !== 'new', 'hasParent before begin');
    return this.#options.parents?.[disk] !== undefined;
  }

  async lease(): Promise<Uint8Array> {
    this.#expectOpen('lease');
    await this.#call('lease');
    const free = this.#slots.find((slot) => slot.owner === 'free');
    if (free && this.#waiting.length === 0) return this.#grant(free);
    return new Promise((grant, refuse) => this.#waiting.push({ grant, refuse }));
  }

  #grant(slot: HeldSlot): Uint8Array {
    slot.owner = 'caller';
    this.mostLeased = Math.max(this.mostLeased, this.leased);
    return slot.bytes;
  }

  release(bytes: Uint8Array): void {
    const slot = this.#slots.find((held) => held.bytes === bytes);
    if (slot?.owner === 'caller') this.#free(slot);
    else this.breaches.push('release of what is not leased');
  }

  #free(slot: HeldSlot): void {
    slot.bytes.fill(0xee);
    slot.owner = 'free';
    const next = this.state === 'begun' ? this.#waiting.shift() : undefined;
    next?.grant(this.#grant(slot));
  }

  async dump(disk: number, cluster: number, bytes: Uint8Array | typeof ZERO): Promise<void> {
    this.#expectOpen('dump');
    if (bytes === ZERO) {
      await this.dumpRange(disk, cluster, 1, ZERO);
      return;
    }
    const slot = this.#slots.find((held) => held.bytes.byteOffset === bytes.byteOffset);
    if (slot?.owner !== 'caller') {
      this.breaches.push('dump of what is not leased');
      return;
    }
    slot.owner = 'sink';
    const copy = Uint8Array.from(bytes);
    this.#take(disk, cluster, copy);
    this.#dumping++;
    try {
      await this.#call('dump');
    } finally {
      this.#dumping--;
      this.#expect(Buffer.compare(copy, bytes) === 0, 'a slot was written after its dump');
      this.#free(slot);
    }
  }

  #take(disk: number, cluster: number, bytes: Uint8Array): void {
    const dumped = this.disks[disk];
    const offset = cluster * this.clusterSizeBytes;
    if (!dumped || !Number.isSafeInteger(offset)) {
      this.breaches.push(`no such disk or cluster: ${disk}, ${cluster}`);
      return;
    }
    const whole = bytes.byteLength % this.clusterSizeBytes === 0;
    this.#expect(bytes.byteLength > 0, 'an empty dump');
    this.#expect(offset + bytes.byteLength <= dumped.sizeBytes, 'a dump past the end');
    this.#expect(whole || offset + bytes.byteLength === dumped.sizeBytes, 'a cut cluster');
    for (let at = 0; at < bytes.byteLength; at += this.clusterSizeBytes) {
      const number = cluster + at / this.clusterSizeBytes;
      this.#expect(!this.#has(dumped, number, 1), `cluster ${number} dumped again`);
      dumped.clusters.set(number, bytes.subarray(at, at + this.clusterSizeBytes));
    }
  }

  async dumpRange(
    disk: number,
    first: number,
    count: number,
    content: typeof ZERO | typeof SAME_AS_PARENT,
  ): Promise<void> {
    this.#expectOpen('dumpRange');
    const isKept = content === SAME_AS_PARENT;
    this.#expect(!isKept || this.#options.parents?.[disk] !== undefined, 'there is no parent');
    const dumped = this.disks[disk]!;
    this.#expect(count > 0, 'an empty range');
    this.#expect(!this.#has(dumped, first, count), `clusters from ${first} dumped again`);
    this.#expect(first + count <= Math.ceil(dumped.sizeBytes / this.clusterSizeBytes), 'a range past the end');
    (isKept ? dumped.keptRanges : dumped.zeroRanges).push({ first, count });
    this.#dumping++;
    try {
      await this.#call('dumpRange');
    } finally {
      this.#dumping--;
    }
  }

  #has(disk: DumpedDisk, first: number, count: number): boolean {
    const ranges = [...disk.zeroRanges, ...disk.keptRanges];
    if (ranges.some((range) => range.first < first + count && first < range.first + range.count)) return true;
    if (count === 1) return disk.clusters.has(first);
    return [...disk.clusters.keys()].some((cluster) => cluster >= first && cluster < first + count);
  }

  async endStream(): Promise<void> {
    this.breaches.push('endStream of a disk');
  }

  async finish(): Promise<DumpResult> {
    this.#expectOpen('finish');
    this.#expect(this.#dumping === 0, 'finish before the dumps were accepted');
    this.#expect(this.leased === 0, 'finish with leased slots');
    for (const [at, disk] of this.disks.entries()) {
      const ranges = [...disk.zeroRanges, ...disk.keptRanges];
      const zero = ranges.reduce((sum, range) => sum + range.count, 0);
      const all = Math.ceil(disk.sizeBytes / this.clusterSizeBytes);
      this.#expect(zero + disk.clusters.size === all, `disk ${at} has clusters missing`);
    }
    await this.#call('finish');
    this.state = 'finished';
    return { backup: 'vm/100/2026-11-21T02:00:00Z', disks: [] };
  }

  async abort(): Promise<void> {
    this.#expect(this.state === 'new' || this.state === 'begun', 'abort after the end');
    this.#expect(this.#dumping === 0, 'abort before the dumps were settled');
    this.#expect(this.leased === 0, 'abort with leased slots');
    this.state = 'aborted';
    for (const { refuse } of this.#waiting.splice(0)) refuse(new Error('aborted'));
    await this.#call('abort');
  }

  async #call(call: SinkCall): Promise<void> {
    const count = this.calls.get(call) ?? 0;
    this.calls.set(call, count + 1);
    const { random, fault } = this.#options;
    for (let turns = random?.integer(0, 3) ?? 0; turns > 0; turns--) await turn();
    if (fault?.call !== call || count !== fault.after) return;
    if (fault.hangs) await new Promise(() => {});
    this.#broken = true;
    throw new SinkFault(`${call} failed`);
  }

  #expectOpen(call: string): void {
    this.#expect(this.state === 'begun', `${call} in state ${this.state}`);
    this.#expect(!this.#broken, `${call} after a call was rejected`);
  }

  #expect(fulfilled: boolean, breach: string): void {
    if (!fulfilled) this.breaches.push(breach);
  }
}

/** The content of a disk as it was dumped; what was dumped as zero is zero. */
export function dumpedContent(disk: DumpedDisk, clusterSizeBytes: number, parent?: Uint8Array): Buffer {
  const content = Buffer.alloc(disk.sizeBytes);
  for (const { first, count } of disk.keptRanges) {
    const from = first * clusterSizeBytes;
    content.set(parent!.subarray(from, from + count * clusterSizeBytes), from);
  }
  for (const [cluster, bytes] of disk.clusters) content.set(bytes, cluster * clusterSizeBytes);
  return content;
}
