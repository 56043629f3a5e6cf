// SPDX-License-Identifier: MIT
// Whole runs of jobs, by the built program.

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Nights, webServer } from './nights.js';

describe('a night', () => {
  it('backs up what it can, tells of what it cannot, prunes, collects, and keeps a report', async () => {
    const night = new Nights();
    await night.init();
    const { url, posted } = await webServer();
    const hooks = night.bench.path('hooks');
    night.configure(
      `
100:
  disks: {scsi0: ${night.image('a')}}
  configs: ${night.config}
101: {disks: {scsi0: ${night.bench.path('missing.raw')}}}
`,
      `
nightly:
  guests: all
  datastore: main
  retention: {last: 1}
  gc: true
  parallel: 2
  retry: {attempts: 2, delay: 0.05s}
  labels: {by: nightly}
  hooks:
    before-job: echo "$VMAR_HOOK $VMAR_JOB $VMAR_KIND $VMAR_CONFIG" >> ${hooks}
    before-guest: [sh, -c, 'echo "$VMAR_HOOK $VMAR_GUEST" >> ${hooks}']
    after-guest: echo "$VMAR_HOOK $VMAR_GUEST $VMAR_OUTCOME $VMAR_BACKUP $VMAR_ERROR_CODE $VMAR_ATTEMPTS" >> ${hooks}
    after-job: echo "$VMAR_HOOK $VMAR_OUTCOME $VMAR_GUESTS_OK of $VMAR_GUESTS, $VMAR_GUESTS_FAILED" >> ${hooks}
  notify:
    webhook: {url: '${url}', headers: {X-Token: secret}}
    command: cat > ${night.bench.path('told')}
`,
      `log: ${night.bench.path('log')}\n`,
    );

    const first = await night.run();
    expect(first.status).toBe(1);
    const { report } = first;
    expect(first.document).toMatchObject({ ok: false });
    expect(report).toMatchObject({
      ...{ job: 'nightly', kind: 'backup', outcome: 'failed', error: { code: 'image-missing' }, warnings: [] },
      steps: [
        { step: 'prune', outcome: 'ok', summary: '0 of 1 backup removed' },
        {
          step: 'gc',
          outcome: 'ok',
          summary: expect.stringMatching(/^\d+ packs? deleted, [\d.]+ \w+ (freed|more for now)$/),
        },
      ],
    });
    const guests = Object.fromEntries(report.guests.map((guest: { guest: string }) => [guest.guest, guest]));
    expect(guests['100']).toMatchObject({ outcome: 'ok', attempts: 1, size: 262144, read: 262144, new: 262144 });
    expect(guests['101']).toMatchObject({
      ...{ outcome: 'failed', attempts: 2, size: 0 },
      error: { code: 'image-missing', message: expect.stringContaining('missing.raw') },
    });
    const [backup] = await night.backups();
    expect(guests['100'].backup).toBe(backup);
    const shown = await night.bench.json(['show', backup!]);
    expect(shown).toMatchObject({ labels: { by: 'nightly' }, configs: [{ name: 'vmar.yaml' }] });

    // What was posted, what the command read and what the history has is the same.
    expect(posted).toHaveLength(1);
    expect(posted[0]).toMatchObject({ headers: { 'x-token': 'secret', 'content-type': 'application/json' } });
    const withoutEnd = ({ finished: _, seconds: __, ...rest }: Record<string, unknown>) => rest;
    expect(withoutEnd(posted[0]!.document)).toEqual(withoutEnd(report));
    expect(withoutEnd(JSON.parse(readFileSync(night.bench.path('told'), 'utf8')))).toEqual(withoutEnd(report));
    expect((await night.history()).map(withoutEnd)).toEqual([withoutEnd(report)]);

    const lines = night.lines('hooks');
    expect(lines[0]).toBe(`before-job nightly backup ${night.config}`);
    expect(lines.slice(1, -1).sort()).toEqual([
      `after-guest 100 ok ${backup}  1`,
      'after-guest 101 failed  image-missing 2',
      'before-guest 100',
      'before-guest 101',
    ]);
    expect(lines.at(-1)).toBe('after-job failed 1 of 2, 101');

    const events = night.lines('log').map((line) => JSON.parse(line));
    expect(events[0]).toMatchObject({ level: 'info', event: 'job-begin', job: 'nightly' });
    expect(events).toContainEqual(expect.objectContaining({ event: 'guest-end', guest: '101', level: 'error' }));
    expect(events).toContainEqual(expect.objectContaining({ event: 'retry', guest: '101', level: 'warn' }));
    expect(events.at(-1)).toMatchObject({ event: 'job-end', outcome: 'failed', level: 'error' });
    expect(first.stderr).toContain('nightly: 101: failed:');

    // The next night the other guest is there too; the first one's old backup goes.
    night.image('missing');
    const second = await night.run();
    expect(second.status).toBe(0);
    expect(second.report).toMatchObject({ outcome: 'ok', steps: [{ summary: '1 of 3 backups removed' }, {}] });
    expect(second.report.error).toBeUndefined();
    expect(await night.backups()).toHaveLength(2);
    expect(await night.backups()).not.toContain(backup);
    expect(posted).toHaveLength(1);
    expect(await night.history()).toHaveLength(2);
    expect(night.leftovers()).toEqual([]);
    expect(await night.bench.json(['verify'])).toMatchObject({ ok: true, damage: [] });
  });
});
