// SPDX-License-Identifier: MIT
// What looks well and is not: a job that its first hook kept from running.

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { Nights } from './nights.js';

it('a report says that a job failed which its first hook kept from running', async () => {
  const night = new Nights();
  await night.init();
  const go = night.bench.path('go');
  night.configure(
    `100: {disks: {a: ${night.image('a')}}}`,
    `nightly: {guests: all, datastore: main, hooks: {before-job: "test -e ${go} || { echo '  no tape' >&2; exit 3; }"}}`,
  );
  const html = night.bench.path('r.html');
  const look = () => night.bench.json(['report', '--html', html, '--config-file', night.config]);
  night.directory('go');
  expect((await night.run()).status).toBe(0);
  expect(await look()).toMatchObject({ ok: true });
  spawnSync('rmdir', [go]);
  const { report } = await night.run();
  expect(report).toMatchObject({
    outcome: 'skipped',
    error: { message: 'the before-job hook ended with status 3: no tape' },
  });
  expect(await look()).toMatchObject({ ok: false });
  expect(readFileSync(html, 'utf8')).toContain('A job failed');
});
