// SPDX-License-Identifier: MIT
// All that keeps house at once, by the real command line: backups of guests in namespaces, forget, gc, verify in portions,
// copies both ways between datastores of unequal clusters and hashes, restores; each is killed now and then. Whatever was
// committed and not forgotten is there and whole, and nothing else. VMAR_HOUSE_ROUNDS=40 makes a long campaign of it, and
// VMAR_KILL_SEED repeats its decisions.

import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { seededRandom } from '../base/random.js';
import { Bench, type Json } from '../cli/bench.js';

const ROUNDS = Number(process.env.VMAR_HOUSE_ROUNDS ?? 1);
const SEED = Number(process.env.VMAR_KILL_SEED ?? Math.floor(Math.random() * 2 ** 31));
const AT_ONCE = 5;
const CLUSTERS = 24;
const CLUSTER = 65536;
const FIRST_SECONDS = 1_700_000_000;
const GUESTS = ['vm/100', 'vm/200', 'office/vm/100', 'office/far/vm/7'];
const STORES = ['here', 'there'] as const;
type Store = (typeof STORES)[number];

const random = seededRandom(SEED);
const POOL = Array.from({ length: 16 }, (_, at) => seededRandom(700 + at).bytes(CLUSTER));

class House {
  readonly bench = new Bench();
  /** Every backup that may ever have been, with what its disk held. */
  readonly contents = new Map<string, Buffer>();
  /** Those that are there for certain, by store. */
  readonly kept: Record<Store, Set<string>> = { here: new Set(), there: new Set() };
  readonly tally = new Map<string, number>();
  readonly #disks = new Map<string, Buffer>();
  #names = 0;
  #time = FIRST_SECONDS;

  async create(): Promise<void> {
    await this.bench.json(['init', 'here']);
    await this.bench.json(['init', 'there', '--cluster-size', '128KiB', '--hash', 'sha256']);
  }

  /** undefined if it was killed; busy is no failure here. */
  async run(store: Store, words: string[], mostStatus: readonly number[] = [0, 5]): Promise<Json | undefined> {
    const { child, finished } = this.bench.start(['--datastore', store, '--json', '--quiet', ...words]);
    const isToDie = random.oneIn(3);
    const dies = isToDie ? delay(random.integer(50, 1500)).then(() => child.kill('SIGKILL')) : undefined;
    const { status, stderr, text } = await finished;
    await dies;
    const name = `${words[0]}${child.signalCode === 'SIGKILL' ? ' killed' : status === 5 ? ' busy' : ''}`;
    this.tally.set(name, (this.tally.get(name) ?? 0) + 1);
    if (child.signalCode === 'SIGKILL') return undefined;
    expect(mostStatus, `${words.join(' ')}: ${stderr}${text.slice(0, 2000)}`).toContain(status);
    return status === 0 ? JSON.parse(text) : undefined;
  }

  async backUp(guest: string): Promise<void> {
    const disk = this.#disks.get(guest) ?? Buffer.alloc(CLUSTERS * CLUSTER + 100);
    this.#disks.set(guest, disk);
    for (let change = 0; change < 4; change++) {
      const from = random.oneIn(5) ? seededRandom(this.#time + change).bytes(CLUSTER) : POOL[random.integer(0, 15)]!;
      disk.set(from, random.integer(0, CLUSTERS - 1) * CLUSTER);
    }
    const image = this.bench.path(`image-${this.#names++}.raw`);
    writeFileSync(image, disk);
    const time = this.#time++;
    const id = `${guest}/${new Date(time * 1000).toISOString().replace('.000Z', 'Z')}`;
    this.contents.set(id, Buffer.from(disk));
    const done = await this.run('here', ['backup', guest, '--disk', `d=${image}`, '--time', `${time}`]);
    if (done !== undefined) this.kept.here.add(done.backup);
    rmSync(image);
  }

  async forget(store: Store): Promise<void> {
    const ids = [...this.kept[store]].filter(() => random.oneIn(2)).slice(0, 3);
    for (const id of ids) this.kept[store].delete(id);
    // One that was killed or busy may have left some, which are whole then.
    if (ids.length > 0) await this.run(store, ['forget', ...ids]);
  }

  async copy(from: Store, to: Store): Promise<void> {
    // 4: forgotten meanwhile.
    const done = await this.run(from, ['copy', '--all', '--to', to], [0, 4, 5]);
    void done;
  }

  async restore(store: Store, id: string): Promise<void> {
    const target = this.bench.path(`restored-${this.#names++}.raw`);
    const done = await this.run(store, ['restore', id, '--disk', `d=${target}`], [0, 4, 5]);
    if (done !== undefined) this.expectContent(id, target);
    rmSync(target, { force: true });
  }

  expectContent(id: string, path: string): void {
    expect(readFileSync(path).equals(this.contents.get(id)!), `${id} is as it was`).toBe(true);
  }

  /** One of the commands, with whatever it needs. */
  async step(): Promise<void> {
    const store = STORES[random.integer(0, 1)]!;
    const [other] = STORES.filter((each) => each !== store) as [Store];
    const ids = [...this.kept[store]];
    const what = random.integer(0, 9);
    if (what <= 2) await this.backUp(GUESTS[random.integer(0, GUESTS.length - 1)]!);
    else if (what === 3) await this.forget(store);
    else if (what <= 5) await this.run(store, ['gc', '--max-unused', ['0%', '10%', '100%'][random.integer(0, 2)]!]);
    else if (what === 6) await this.run(store, ['verify', '--budget', '1s']);
    else if (what <= 8) await this.copy(store, other);
    else if (ids.length > 0) await this.restore(store, ids[random.integer(0, ids.length - 1)]!);
  }

  /** Nobody works: what is there is what is to be there, whole; and gc does what it says. */
  async check(store: Store): Promise<void> {
    const global = ['--datastore', store];
    const { backups } = await this.bench.json([...global, 'list']);
    const there = new Set<string>(backups.map(({ backup }: Json) => backup));
    for (const id of this.kept[store]) expect(there, `${id} in ${store}`).toContain(id);
    for (const id of there) expect([...this.contents.keys()], `${id} in ${store}`).toContain(id);
    this.kept[store] = there;
    const planned = await this.bench.json([...global, 'gc', '--dry-run', '--max-unused', '0%']);
    const { plan } = await this.bench.json([...global, 'gc', '--max-unused', '0%']);
    expect(plan).toEqual(planned.plan);
    const { status, text } = await this.bench.run([...global, 'verify']);
    expect(status, text).toBe(0);
    for (const id of there) {
      await this.bench.json([...global, 'restore', id, '--disk', 'd=checked.raw']);
      this.expectContent(id, this.bench.path('checked.raw'));
      rmSync(this.bench.path('checked.raw'));
    }
  }
}

it(
  'loses nothing and brings nothing back, whoever is killed when',
  async () => {
    const house = new House();
    await house.create();
    for (let round = 0; round < ROUNDS; round++) {
      const lane = async (): Promise<void> => {
        for (let step = 0; step < 3; step++) await house.step();
      };
      await house.backUp(GUESTS[round % GUESTS.length]!);
      await Promise.all(Array.from({ length: AT_ONCE }, lane)).catch((error: unknown) => {
        throw new Error(`VMAR_KILL_SEED=${SEED}, round ${round}: ${error instanceof Error ? error.message : error}`);
      });
      if (round % 4 === 3 || round === ROUNDS - 1) for (const store of STORES) await house.check(store);
    }
    console.info(`VMAR_KILL_SEED=${SEED}: ${JSON.stringify(Object.fromEntries(house.tally))}`);
    expect(house.kept.here.size).toBeGreaterThan(0);
  },
  60_000 + ROUNDS * 60_000,
);
