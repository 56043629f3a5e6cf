// SPDX-License-Identifier: MIT
// Two datastores, two hosts, and every kind of command that works on them, each checked against what must be there.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type Random, seededRandom } from '../base/random.js';
import { Bench, type Json, type Running } from '../cli/bench.js';
import { type Judged, judge } from '../harm/judged-run.js';
import { Shelf } from './shelf.js';
import { blowOn, HostCache } from './weather.js';

export const CLUSTER = 65536;
const CLUSTERS = 20;
const FIRST_SECONDS = 1_760_000_000;
const HANGS_MILLIS = 240_000;
/** Its backups are made by `job run`, so that nobody knows their ids beforehand. */
export const JOB_GUEST = 'vm/300';
export const GUESTS = ['vm/100', 'vm/101', 'office/vm/100'];
export const STORES = ['here', 'there'] as const;
export type Store = (typeof STORES)[number];

/** A host whose clock is hours ahead of the other's; what a file server writes down is not. */
const AHEAD = `const now = Date.now, Real = Date;
globalThis.Date = class extends Real { constructor(...given) { super(...(given.length === 0 ? [Real.now()] : given)); } };
Real.now = () => now() + 7 * 3600e3;
`;

/** What may end a process that maps a file which is cut under it. */
const CACHE_DEATHS: ReadonlySet<string | null> = new Set(['SIGBUS', 'SIGSEGV', 'SIGABRT']);

/** How a command ended: with its document, with an error that is right, or cut off at any point. */
export interface Outcome {
  readonly document?: Json;
  readonly code?: string;
}

interface Host {
  readonly cache: HostCache;
  readonly nodeArguments: readonly string[];
}

export class Sky {
  readonly bench = new Bench();
  readonly shelves: Record<Store, Shelf> = { here: new Shelf(), there: new Shelf() };
  /** What the disk of every backup holds that may be there. */
  readonly contents = new Map<string, Buffer>();
  /** What the job's guest ever held. */
  readonly jobContents: Buffer[] = [];
  /** Protected, and never to be let go. */
  readonly anchors: Record<Store, Set<string>> = { here: new Set(), there: new Set() };
  readonly findings: string[] = [];
  readonly tally = new Map<string, number>();
  readonly random: Random;
  isJobRunning = false;
  /** Whether the disk that `here` lies on is gone just now: commands may fail in any way that they tell. */
  isCut = false;
  readonly #pool: readonly Uint8Array[];
  readonly #disks = new Map<string, Buffer>();
  readonly #hosts: readonly Host[];
  #time = FIRST_SECONDS;
  #names = 0;

  constructor(seed: number) {
    this.random = seededRandom(seed);
    this.#pool = Array.from({ length: 12 }, (_, at) => seededRandom(900 + at).bytes(CLUSTER));
    this.#hosts = [
      { cache: new HostCache(this.bench.path('cache-a')), nodeArguments: [] },
      { cache: new HostCache(this.bench.path('cache-b')), nodeArguments: ['--import', this.bench.path('ahead.mjs')] },
    ];
    mkdirSync(this.bench.path('tmp'));
    writeFileSync(this.bench.path('ahead.mjs'), AHEAD);
  }

  async create(): Promise<void> {
    await this.bench.json(['init', 'here']);
    await this.bench.json(['init', 'there']);
    const disk = this.bench.path('job.raw');
    writeFileSync(
      this.bench.path('vmar.yaml'),
      `datastores: {main: ${this.bench.path('here')}}
guests: {"300": {disks: {d: ${disk}}}}
jobs: {nightly: {guests: ["300"], datastore: main, retention: {last: 3}, gc: true, retry: {attempts: 1}}}
`,
      { mode: 0o600 },
    );
  }

  pick<T>(list: readonly T[]): T | undefined {
    return list.length === 0 ? undefined : list[this.random.integer(0, list.length - 1)];
  }

  note(what: string): void {
    this.tally.set(what, (this.tally.get(what) ?? 0) + 1);
  }

  find(words: readonly string[], fault: string, result?: Judged): void {
    const said = result && ` (${result.status ?? 'killed'}) ${result.text.slice(0, 700)}${result.stderr.slice(0, 700)}`;
    this.findings.push(`${words.join(' ')}: ${fault}${said ?? ''}`);
  }

  start(words: readonly string[], host: Host): Running {
    const { cache, nodeArguments } = host;
    const env = { VMAR_DATASTORE: undefined, VMAR_CACHE_DIR: cache.path, TMPDIR: this.bench.path('tmp') };
    return this.bench.start(['--json', ...words], { env, nodeArguments });
  }

  host(): Host {
    return this.pick(this.#hosts)!;
  }

  spoilCache(): void {
    this.note(this.host().cache.spoil(this.random));
  }

  /** Runs a command in all weathers. `refusals`: codes of errors that are right. */
  async run(store: Store, words: readonly string[], refusals: readonly string[] = []): Promise<Outcome> {
    const all = ['--datastore', store, ...words];
    const host = this.host();
    const running = this.start(all, host);
    const [result, blow] = await Promise.all([judge(running, HANGS_MILLIS), blowOn(running, this.random)]);
    return this.#judged(all, running, result, blow, host, refusals);
  }

  #judged(
    words: readonly string[],
    { child }: Running,
    result: Judged,
    blow: string,
    host: Host,
    refusals: readonly string[],
  ): Outcome {
    const isDead = result.status === null && !result.faults.includes('hangs');
    const isRight =
      isDead && (child.signalCode === blow || (host.cache.isSpoilt && CACHE_DEATHS.has(child.signalCode)));
    const name = words[2];
    if (isRight) {
      this.note(`${name} ${child.signalCode}`);
      return {};
    }
    for (const fault of result.faults) this.find(words, fault, result);
    if (result.status === 130 && blow === 'SIGTERM') {
      this.note(`${name} interrupted`);
      return {};
    }
    if (result.status !== 0 && this.isCut) {
      this.note(`${name} cut off`);
      return {};
    }
    if (result.status === 0) {
      this.note(`${name}`);
      return { document: result.json() };
    }
    const { error, failed, jobs } = result.text === '' ? {} : result.json();
    const failures: Json[] = [
      ...(failed ?? []),
      ...(jobs ?? []).flatMap(({ guests, steps }: Json) => [...guests, ...steps]),
    ];
    const codes = [error?.code, ...failures.map((entry) => entry.error?.code ?? entry.code)].filter(
      (code) => code !== undefined,
    );
    if (codes.length === 0 || !codes.every((code) => refusals.includes(code))) {
      this.find(words, `fails${jobs === undefined ? '' : ` ${JSON.stringify(jobs)}`}`, result);
      return {};
    }
    this.note(`${name} ${codes[0]}`);
    return { code: codes[0] };
  }

  /** The next night's disk of a guest. */
  nextDisk(guest: string): Buffer {
    const disk = Buffer.from(this.#disks.get(guest) ?? Buffer.alloc(CLUSTERS * CLUSTER + 321));
    for (let change = this.random.integer(1, 5); change > 0; change--) {
      const own = this.random.oneIn(4) ? this.random.bytes(CLUSTER) : this.pick(this.#pool)!;
      const place = this.random.integer(0, CLUSTERS - 1) * CLUSTER;
      if (this.random.oneIn(6)) disk.fill(0, place, place + CLUSTER);
      else disk.set(own, place);
    }
    this.#disks.set(guest, disk);
    return disk;
  }

  nextTime(): number {
    return this.#time++;
  }

  idOf(guest: string, seconds: number): string {
    return `${guest}/${new Date(seconds * 1000).toISOString().replace('.000Z', 'Z')}`;
  }

  path(kind: string): string {
    return this.bench.path(`${kind}-${this.#names++}`);
  }

  /** A backup that may be there, rather than not. */
  some(store: Store): string | undefined {
    return this.pick(this.shelves[store].possible());
  }

  /** Whether bytes are those of the backup; of the job's guest, any that it ever held. */
  isRight(id: string, bytes: Buffer): boolean {
    const known = this.contents.get(id);
    if (known !== undefined) return bytes.equals(known);
    if (!id.startsWith(JOB_GUEST)) return false;
    const found = this.jobContents.find((content) => bytes.equals(content));
    if (found !== undefined) this.contents.set(id, found);
    return found !== undefined;
  }

  expectBytes(words: readonly string[], id: string, path: string): void {
    if (!this.isRight(id, readFileSync(path))) this.find(words, `WRONG BYTES of ${id}`);
    rmSync(path);
  }
}
