// SPDX-License-Identifier: MIT
// The commands of a storm: what each needs, and what follows for what must be there.

import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import type { Json } from '../cli/bench.js';
import { serve, trial } from '../cli/serving.js';
import { GUESTS, JOB_GUEST, type Sky, STORES, type Store } from './sky.js';

type Command = (sky: Sky, store: Store) => Promise<void>;

const guestOf = (id: string): string => id.slice(0, id.lastIndexOf('/'));

export async function backUp(sky: Sky, store: Store, guest = sky.pick(GUESTS)!): Promise<void> {
  const disk = sky.nextDisk(guest);
  const image = sky.path('image');
  writeFileSync(image, disk);
  const time = sky.nextTime();
  const id = sky.idOf(guest, time);
  sky.contents.set(id, disk);
  const adding = sky.shelves[store].begin('add', (other) => other === id);
  const words = ['backup', guest, '--disk', `d=${image}`, '--time', `${time}`, '--wait', '--workers', '1'];
  const { document } = await sky.run(store, words);
  if (document === undefined) adding.cutOff([id]);
  else {
    if (document.backup !== id) sky.find(words, `made ${document.backup}, not ${id}`);
    adding.done([id]);
  }
  rmSync(image);
}

/** Runs what reads one backup; undefined if it did not come to its end, which it must if the backup is there. */
async function read(sky: Sky, store: Store, id: string, words: readonly string[]): Promise<Json | undefined> {
  const mayBeGone = sky.shelves[store].watch(id);
  const { document, code } = await sky.run(store, words, ['no-such-backup', 'guest-busy']);
  if (code === 'no-such-backup' && !mayBeGone()) sky.find(words, 'says that there is no such backup');
  return document;
}

const restore: Command = async (sky, store) => {
  const id = sky.some(store);
  if (id === undefined) return;
  const target = sky.path('restored');
  const words = ['restore', id, '--disk', `d=${target}`, '--workers', '1'];
  if ((await read(sky, store, id, words)) !== undefined) sky.expectBytes(words, id, target);
};

const serveAndRead: Command = async (sky, store) => {
  const id = sky.some(store);
  if (id === undefined) return;
  const mayBeGone = sky.shelves[store].watch(id);
  const socket = sky.path('socket');
  const words = ['serve', id, '--socket', socket];
  let serving: Awaited<ReturnType<typeof serve>>;
  try {
    serving = await serve(sky.bench, [id, '--socket', socket, '--workers', '1'], ['--datastore', store]);
  } catch (error) {
    if (!mayBeGone() && !sky.isCut) sky.find(words, String(error));
    return;
  }
  const target = sky.path('served');
  const said = await trial('nbdcopy', serving.uri(), target);
  const { status } = await serving.stop(sky.random.oneIn(2) ? 'SIGKILL' : 'SIGTERM');
  sky.note('serve');
  if (sky.isCut) return;
  if (said !== '') sky.find(words, `nbdcopy: ${said}${serving.stderr()}`);
  else sky.expectBytes(words, id, target);
  if (status !== null && status !== 130) sky.find(words, `ends with ${status}: ${serving.stderr()}`);
};

/** Out as an archive, and in again as another guest. */
const exchange: Command = async (sky, store) => {
  const id = sky.some(store);
  if (id === undefined) return;
  const file = `${sky.path('archive')}.${sky.pick(['vma', 'vmar', 'tar'])}`;
  if ((await read(sky, store, id, ['export', id, '--output', file, '--workers', '1'])) === undefined) return;
  if (!existsSync(file)) {
    sky.find(['export', file], 'says that it is done, and there is no file');
    return;
  }
  const guest = `vm/imported-${sky.nextTime()}`;
  const time = sky.nextTime();
  const made = sky.idOf(guest, time);
  // Bytes are those of what was exported; of the job's guest they are known once they are seen.
  const content = sky.contents.get(id);
  if (content === undefined) return;
  sky.contents.set(made, content);
  const adding = sky.shelves[store].begin('add', (other) => other === made);
  const words = ['import', file, '--guest', guest.slice(3), '--time', `${time}`, '--wait', '--workers', '1'];
  const { document } = await sky.run(store, words);
  if (document === undefined) adding.cutOff([made]);
  else if (document.imported[0].backup !== made) sky.find(words, `made ${JSON.stringify(document)}`);
  else adding.done([made]);
  rmSync(file, { force: true });
};

const copyAll: Command = async (sky, from) => {
  const to = STORES.find((each) => each !== from)!;
  const adding = sky.shelves[to].begin('add', () => true);
  const { document } = await sky.run(
    from,
    ['copy', '--all', '--to', to, '--workers', '1'],
    ['no-such-backup', 'guest-busy'],
  );
  const all = [...sky.shelves.here.possible(), ...sky.shelves.there.possible(), ...sky.contents.keys()];
  if (document === undefined) adding.cutOff(all);
  else adding.done(document.copied.map(({ backup }: Json) => backup));
};

const forget: Command = async (sky, store) => {
  const ids = sky.shelves[store].possible().filter(() => sky.random.oneIn(5));
  const going = ids.slice(0, 3);
  if (going.length === 0) return;
  const removing = sky.shelves[store].begin('remove', (id) => going.includes(id));
  const words = ['forget', ...going];
  const { document } = await sky.run(store, words, ['no-such-backup', 'guest-busy', 'protected']);
  if (document === undefined) removing.cutOff(going.filter((id) => !sky.anchors[store].has(id)));
  else removing.done(document.forgotten);
  for (const id of document?.forgotten ?? [])
    if (sky.anchors[store].has(id)) sky.find(words, `forgot ${id}, protected`);
};

const prune: Command = async (sky, store) => {
  const guest = sky.pick([...GUESTS, JOB_GUEST])!;
  const removing = sky.shelves[store].begin('remove', (id) => guestOf(id) === guest);
  const words = ['prune', guest, '--keep-last', `${sky.random.integer(1, 4)}`];
  const { document } = await sky.run(store, words, ['guest-busy', 'no-such-guest']);
  const touched = sky.shelves[store].possible().filter((id) => guestOf(id) === guest && !sky.anchors[store].has(id));
  if (document === undefined) removing.cutOff(touched);
  else removing.done(document.removed);
  for (const id of document?.removed ?? []) if (sky.anchors[store].has(id)) sky.find(words, `removed ${id}, protected`);
};

/** Some are protected for good, of which nothing may be removed from then on; others for a while. */
const protect: Command = async (sky, store) => {
  const id = sky.some(store);
  if (id === undefined) return;
  if (sky.anchors[store].has(id)) return;
  const mayBeGone = sky.shelves[store].watch(id);
  if (sky.anchors[store].size > 3) return;
  const words = ['protect', id];
  const { document } = await sky.run(store, words, ['no-such-backup', 'guest-busy']);
  if (document !== undefined && !mayBeGone()) sky.anchors[store].add(id);
};

const gc: Command = async (sky, store) => {
  const unused = sky.pick(['0%', '0%', '10%', '100%'])!;
  const { document } = await sky.run(store, ['gc', '--max-unused', unused, '--workers', '1'], ['gc-busy']);
  if (document !== undefined && (document.damaged.length > 0 || document.missingChunks > 0)) {
    sky.find(['gc'], `finds damage: ${JSON.stringify(document).slice(0, 900)}`);
  }
};

const verify: Command = async (sky, store) => {
  const kinds = [['--budget', '2s'], ['--older-than', '1h', '--budget', '1s'], [], ['--quick']];
  const id = sky.random.oneIn(4) ? sky.some(store) : undefined;
  if (id !== undefined) {
    await read(sky, store, id, ['verify', id, '--workers', '1']);
    return;
  }
  await sky.run(store, ['verify', ...sky.pick(kinds)!, '--workers', '1']);
};

const look: Command = async (sky, store) => {
  const id = sky.some(store);
  const looks: (readonly string[])[] = [['status'], ['stats'], ['list'], ['verify', '--list'], ['gc', '--dry-run']];
  looks.push(['report', '--html', sky.path('report')]);
  const ofOne =
    id === undefined ? undefined : sky.pick([undefined, undefined, ['show', id], ['notes', id, '--set', 'x']]);
  if (ofOne !== undefined && id !== undefined) await read(sky, store, id, ofOne);
  else await sky.run(store, sky.pick(looks)!, ['gc-busy']);
};

/** A night of the job: it backs up, prunes and collects. One at a time, since it reads the image that this one changes. */
const runJob: Command = async (sky) => {
  if (sky.isJobRunning) return;
  sky.isJobRunning = true;
  const disk = sky.nextDisk(JOB_GUEST);
  sky.jobContents.push(disk);
  writeFileSync(sky.bench.path('job.raw'), disk);
  const ofJob = (id: string): boolean => guestOf(id) === JOB_GUEST;
  const adding = sky.shelves.here.begin('add', ofJob);
  const removing = sky.shelves.here.begin('remove', ofJob);
  const { document } = await sky.run(
    'here',
    ['job', 'run', 'nightly', '--config-file', sky.bench.path('vmar.yaml')],
    ['guest-busy', 'gc-busy'],
  );
  const made = document?.jobs[0].guests[0].backup;
  if (made !== undefined) {
    sky.contents.set(made, disk);
    // Of its own the newest stays.
    adding.done([made]);
  } else adding.cutOff([]);
  removing.cutOff(sky.shelves.here.possible().filter((id) => ofJob(id) && !sky.anchors.here.has(id)));
  sky.isJobRunning = false;
};

const spoilCache: Command = async (sky) => sky.spoilCache();

/** How often each comes. */
const WEIGHTS: readonly (readonly [number, Command])[] = [
  [6, backUp],
  [3, restore],
  [2, serveAndRead],
  [2, exchange],
  [3, copyAll],
  [2, forget],
  [1, prune],
  [1, protect],
  [5, gc],
  [2, verify],
  [2, look],
  [1, runJob],
  [1, spoilCache],
];
const ALL = WEIGHTS.flatMap(([weight, command]) => Array.from({ length: weight }, () => command));

export async function anyCommand(sky: Sky): Promise<void> {
  await sky.pick(ALL)!(sky, sky.pick(STORES)!);
}

/** What dead processes left in the datastore. */
export function leftIn(sky: Sky, store: Store): string[] {
  const names = (directory: string): string[] => readdirSync(sky.bench.path(store, directory));
  return [...names('tmp'), ...names('locks').filter((name) => name.startsWith('session-'))];
}
