// SPDX-License-Identifier: MIT
// Jobs of guests that run, found by their sockets: incremental nights, and an interrupted one that leaves the guest as it
// was.

import { spawnSync } from 'node:child_process';
import { readdirSync, rmSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { QmpClient } from '#vmar/src/qmp/qmp-client.js';
import { noise, patch } from '../cli/images.js';
import { haveStorageDaemon, type StorageDaemon, startStorageDaemon } from '../qmp/storage-daemon.js';
import { Nights } from './nights.js';

const SIZE = 16 << 20;

describe.skipIf(!haveStorageDaemon('jobs of guests that run'))('guests found by a glob of QMP sockets', () => {
  const night = new Nights();
  const daemons = new Map<string, StorageDaemon>();

  beforeAll(async () => {
    await night.init();
    for (const guest of ['web', 'db']) {
      const image = night.bench.path(`${guest}.qcow2`);
      spawnSync('qemu-img', ['create', '-q', '-f', 'qcow2', image, String(SIZE)]);
      const daemon = await startStorageDaemon(night.directory(`run/${guest}`), [
        { name: 'vda', image, format: 'qcow2' },
      ]);
      daemons.set(guest, daemon);
      patch(daemon.mounts.get('vda')!, 0, noise(64));
    }
    night.configure(
      `"*": {qmp: ${night.bench.path('run')}/*/qmp.sock, fleece: ${night.directory('fleece')}}
slow: {qmp: ${daemons.get('web')!.qmp}, fleece: ${night.bench.path('fleece')}, bandwidth: 256KiB}
none-*: {qmp: ${night.bench.path('elsewhere')}/*.sock}`,
      `nightly: {guests: [web, db], datastore: main, parallel: 2}
slow: {guests: slow, datastore: main}
none: {guests: "none-*", datastore: main}`,
    );
  });

  afterAll(async () => {
    for (const daemon of daemons.values()) await daemon.kill();
  });

  it('are backed up, from the second night on what changed', async () => {
    const first = await night.run();
    expect(first.status, first.stderr).toBe(0);
    expect(first.report.guests).toMatchObject([
      { outcome: 'ok', size: SIZE, new: 64 << 16 },
      { outcome: 'ok', size: SIZE, new: 64 << 16 },
    ]);
    patch(daemons.get('db')!.mounts.get('vda')!, 5 << 16, noise());
    const { report } = await night.run();
    const read = report.guests.map(({ guest, read }: { guest: string; read: number }) => [guest, read]);
    expect(read.sort()).toEqual([
      ['db', 65536],
      ['web', 0],
    ]);
  });

  it('go on unharmed when a run is stopped', async () => {
    const { child, finished } = night.start('slow');
    const fleeces = () => readdirSync(night.bench.path('fleece'));
    for (let n = 0; fleeces().length === 0 && n < 400; n++) await delay(25);
    expect(fleeces()).not.toEqual([]);
    patch(daemons.get('web')!.mounts.get('vda')!, 9 << 16, noise());
    child.kill('SIGTERM');
    const { status, json } = await finished;
    expect([status, json().jobs[0].outcome]).toEqual([130, 'interrupted']);
    expect(fleeces()).toEqual([]);
    const client = await QmpClient.open(daemons.get('web')!.qmp);
    const nodes = await client.execute('query-named-block-nodes', { flat: true });
    expect(nodes.map(({ nodeName }) => nodeName).filter((name) => name.startsWith('vmar'))).toEqual([]);
    expect(await client.execute('query-block-exports', {})).toHaveLength(1);
    await client.close();
    // What was written meanwhile is in the next backup, which is incremental still.
    const { report } = await night.run();
    expect(report.guests).toContainEqual(
      expect.objectContaining({ guest: 'web', outcome: 'ok', read: 65536, new: 65536 }),
    );
  });

  it('that are not there fail the job, and it is said which socket was looked for', async () => {
    const { status, report } = await night.run('none');
    expect(status).toBe(1);
    expect(report).toMatchObject({ outcome: 'failed', guests: [], error: { code: 'no-guests' } });
    expect(report.error.message).toContain(`${night.bench.path('elsewhere')}/*.sock`);
    await daemons.get('web')!.kill();
    rmSync(daemons.get('web')!.qmp, { force: true });
    // One that does not run is said, the other is backed up.
    const { report: half } = await night.run();
    expect(half.guests).toMatchObject([
      { guest: 'web', outcome: 'failed', attempts: 0, error: { code: 'no-guests' } },
      { guest: 'db', outcome: 'ok' },
    ]);
  });
});
