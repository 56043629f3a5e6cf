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
    await nights.bench.json(['init', 'away']);
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
      ].join('\n'),
      '',
      `away: ${nights.bench.path('away')}`,
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
});
