// SPDX-License-Identifier: MIT
// A superblock that is gone takes no backup along: what the message says brings all of them back.

import { readFileSync, renameSync, rmdirSync, rmSync } from 'node:fs';
import { expect, it } from 'vitest';
import { Bench } from '../cli/bench.js';
import { mixedImage } from '../cli/images.js';

it('a new one is made as the message says, and has all backups', async () => {
  const bench = new Bench();
  const image = mixedImage(bench.path('a.raw'));
  await bench.json(['init', bench.store, '--cluster-size', '256KiB', '--hash', 'sha256']);
  await bench.json(['backup', '100', '--disk', `d=${image}`]);
  rmSync(bench.path('store', 'datastore.pb'));
  const { exit, advice } = await bench.error(['list']);
  expect(exit).toBe(3);
  const [, init] = /`vmar (init NEW [^`]+)`/.exec(advice) ?? [];
  await bench.json(init!.replace('NEW', bench.path('new')).split(' '));
  for (const name of ['packs', 'manifests', 'state']) {
    rmdirSync(bench.path('new', name));
    renameSync(bench.path('store', name), bench.path('new', name));
  }
  const env = { VMAR_DATASTORE: bench.path('new') };
  expect(await bench.json(['verify'], { env })).toMatchObject({ ok: true, checked: { backups: 1 } });
  await bench.json(['restore', '100', '--to', bench.path('out')], { env });
  expect(readFileSync(bench.path('out', 'd.raw')).equals(readFileSync(image))).toBe(true);
  expect(await bench.json(['backup', '100', '--disk', `d=${image}`], { env })).toMatchObject({ disks: [{ new: 0 }] });
});
