// SPDX-License-Identifier: MIT
// Jobs of the other kinds do their work, and a drill that fails is a failed job. By the built program.

import { spawnSync } from 'node:child_process';
import { truncateSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Json } from '../cli/bench.js';
import { Nights } from './nights.js';

const nights = new Nights();
const hasTools = ['mke2fs', 'e2fsck'].every((tool) => spawnSync(tool, ['-V']).error === undefined);
if (!hasTools) console.warn('SKIPPED: drills of jobs need mke2fs and e2fsck (Debian: e2fsprogs)');

describe.runIf(hasTools)('a job', () => {
  beforeAll(async () => {
    await nights.init();
    for (const name of ['away', 'other']) await nights.bench.json(['init', name]);
    const ext4 = nights.bench.path('100.raw');
    writeFileSync(ext4, '');
    truncateSync(ext4, 8 << 20);
    expect(spawnSync('mke2fs', ['-q', '-t', 'ext4', '-F', ext4]).status).toBe(0);
    const plain = nights.image('101');
    for (const [guest, image] of [
      ['100', ext4],
      ['101', plain],
    ]) {
      await nights.bench.json(['backup', guest!, '--disk', `scsi0=${image}`]);
    }
    nights.configure(
      `100: {disks: {scsi0: ${ext4}}}\n101: {disks: {scsi0: ${plain}}}`,
      [
        'scrub: {kind: verify, datastore: main}',
        'offsite: {kind: copy, from: main, to: away}',
        'collect: {kind: gc, datastore: main}',
        'good: {kind: drill, datastore: main, guests: [100], fsck: true}',
        'bad: {kind: drill, datastore: main, guests: [101], fsck: true}',
        'none: {kind: drill, datastore: other, fsck: true}',
        'tries: {kind: drill, datastore: main, guests: [nobody, 100], fsck: true}',
        'brings: {kind: copy, from: main, to: other, guests: [nobody, 100]}',
        'tidies: {kind: prune, datastore: main, guests: ["no*", 100], retention: {last: 1}, gc: true}',
        'lost: {kind: prune, datastore: main, guests: [nobody], retention: {last: 1}, gc: true}',
      ].join('\n'),
      '',
      `away: ${nights.bench.path('away')}\nother: ${nights.bench.path('other')}`,
    );
  });

  it.each([
    ['scrub', 'verify'],
    ['offsite', 'copy'],
    ['collect', 'gc'],
    ['good', 'drill'],
  ])('%s, of kind %s, does its work', async (job, kind) => {
    const { status, report, stderr } = await nights.run(job);
    expect({ status, stderr }).toMatchObject({ status: 0 });
    expect(report).toMatchObject({ job, kind, outcome: 'ok' });
    expect((await nights.history()).some((run) => run.job === job && run.outcome === 'ok')).toBe(true);
  });

  it('of kind copy has brought all backups', async () => {
    const { backups } = await nights.bench.json(['list'], { env: { VMAR_DATASTORE: nights.bench.path('away') } });
    expect(backups.map(({ backup }: Json) => backup)).toEqual(await nights.backups());
  });

  it('of kind drill fails where nothing could be checked, and says of which guest', async () => {
    const { status, report } = await nights.run('bad');
    expect(status).toBe(1);
    expect(report).toMatchObject({ kind: 'drill', outcome: 'failed', guests: [{ guest: '101', outcome: 'failed' }] });
  });

  it('of kind drill fails where there is nothing to try', async () => {
    const { status, report } = await nights.run('none');
    expect([status, report.error.code]).toEqual([1, 'no-such-guest']);
  });

  it('does for the other guests what it is there for, where one has no backup, and fails', async () => {
    const drilled = (await nights.run('tries')).report;
    expect(drilled.guests).toMatchObject([
      { guest: 'nobody', outcome: 'failed', error: { code: 'no-such-guest' } },
      { guest: '100', outcome: 'ok' },
    ]);
    const missing = { outcome: 'failed', error: { code: 'no-such-guest', message: expect.stringContaining('no') } };
    const copied = await nights.run('brings');
    expect(copied.status).toBe(1);
    expect(copied.report).toMatchObject({ ...missing, steps: [{ step: 'copy', outcome: 'ok' }] });
    const { backups } = await nights.bench.json(['list'], { env: { VMAR_DATASTORE: nights.bench.path('other') } });
    expect(backups).toHaveLength(1);
    const steps = [
      { step: 'prune', outcome: 'ok' },
      { step: 'gc', outcome: 'ok' },
    ];
    expect((await nights.run('tidies')).report).toMatchObject({ ...missing, steps });
    expect((await nights.run('lost')).report).toMatchObject({ ...missing, steps: [] });
  });
});
