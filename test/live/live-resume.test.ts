// SPDX-License-Identifier: MIT
// The same command goes on, whatever became of its backup meanwhile: a newer one was made, or it was forgotten.

import { rmSync, writeFileSync } from 'node:fs';
import { afterEach, beforeAll, expect, it } from 'vitest';
import { openNbdDevice } from '#vmar/src/nbd/client/nbd-client.js';
import { Bench } from '../cli/bench.js';
import { CLUSTER, makeImage, noise } from '../cli/images.js';
import { exportUri, LiveProcess } from './live-process.js';

const bench = new Bench();
const SIZE = 40 * CLUSTER;

beforeAll(async () => {
  await bench.json(['init', bench.store]);
  makeImage(bench.path('a.raw'), SIZE, [{ at: 0, bytes: noise(40) }]);
});

let live: LiveProcess[] = [];
afterEach(async () => {
  for (const process of live) if (!process.hasEnded) await process.signal('SIGKILL');
  live = [];
  for (const name of ['t.raw', 'u.raw', 't.raw.vmar-live', 'u.raw.vmar-live', 's.sock', 'st.drive-a', 'st.b']) {
    rmSync(bench.path(name), { force: true });
  }
});

function start(...words: string[]): LiveProcess {
  const process = new LiveProcess(bench, [...words, '--socket', 's.sock']);
  live.push(process);
  return process;
}

async function firstBytes(name: string): Promise<string> {
  const device = await openNbdDevice(exportUri(bench, name), { readOnly: false, connections: 1, reconnectMillis: 0 });
  const into = Buffer.alloc(5);
  await device.read(0, into);
  await device.close();
  return String(into);
}

it('goes on with the backup that it was begun with when the guest has a newer one', async () => {
  await bench.json(['backup', '100', '--disk', 'a=a.raw']);
  const command = ['100', '--disk', 'a=t.raw'];
  const first = start(...command, '--speed', '64KiB');
  await first.until('listening');
  await first.signal('SIGKILL');
  makeImage(bench.path('new.raw'), SIZE, [{ at: 0, bytes: noise(40) }]);
  await bench.json(['backup', '100', '--disk', 'a=new.raw']);
  const again = start(...command, '--exit-when-done');
  expect(await again.status()).toBe(0);
  expect(again.events[0]).toMatchObject({ disks: [{ resumed: true }] });
  const other = start(...command, '--overwrite', '--exit-when-done');
  expect(await other.status()).toBe(0);
});

it('serves on without the backup when all was restored', async () => {
  await bench.json(['backup', '101', '--disk', 'drive-a=a.raw', '--disk', 'b=a.raw']);
  for (const state of [[], ['--state', 'st']]) {
    const command = ['101', '--disk', 'a=t.raw', '--disk', 'b=u.raw', ...state];
    const first = start(...command);
    await first.until('done');
    await first.signal('SIGKILL');
    writeFileSync(bench.path('t.raw'), 'guest', { flag: 'r+' });
    const again = start(...command, '--datastore', bench.path('gone'));
    await again.until('done');
    expect(again.events[0]).toMatchObject({ disks: [{ name: 'drive-a', resumed: true }, { name: 'b' }] });
    expect(await firstBytes('drive-a')).toBe('guest');
    expect(await again.status()).toBe(0);
    rmSync(bench.path('t.raw'));
    rmSync(bench.path('u.raw'));
  }
});

it('needs the backup while something is missing, or another one is named', async () => {
  await bench.json(['backup', '102', '--disk', 'a=a.raw']);
  await bench.json(['backup', '103', '--disk', 'a=a.raw']);
  const half = start('102', '--disk', 'a=t.raw', '--speed', '64KiB');
  await half.until('listening');
  await half.signal('SIGKILL');
  const done = start('103', '--disk', 'a=u.raw');
  await done.until('done');
  await done.signal('SIGKILL');
  await bench.json(['forget', '102']);
  await bench.json(['forget', '103']);
  const refused = (guest: string, target: string) =>
    bench.error(['--live', guest, '--disk', `a=${target}`, '--socket', 's.sock'], { program: 'vma-restore' });
  expect(await refused('102', 't.raw')).toMatchObject({ code: 'no-such-backup', exit: 4 });
  expect(await refused('101', 'u.raw')).toMatchObject({ code: 'state-of-another-backup', exit: 1 });
  const again = start('103', '--disk', 'a=u.raw', '--exit-when-done');
  expect(await again.status()).toBe(0);
});
