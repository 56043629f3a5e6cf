// SPDX-License-Identifier: MIT

import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import * as vmar from '#vmar/src/index.js';
import { scratchDirectory } from '../base/scratch.js';

const directory = scratchDirectory();

it('the library backs up and restores without the command line', async () => {
  const image = join(directory, 'a.raw');
  const archive = join(directory, 'a.vmar');
  writeFileSync(image, randomBytes(200_000));
  const vault = await vmar.openArchiveVault(
    { kind: 'file', path: archive, overwrite: false },
    { clusterSizeBytes: 65536, hash: 'blake3' },
  );
  const machine = vmar.createMachine({ hash: 'blake3', level: 1, clusterSizeBytes: 65536, workers: 0 });
  const device = await vmar.createImageSource({ openFile: vmar.openFileDevice }).open(image, { forceShare: false });
  const job = new vmar.BackupJob({
    disks: [{ device }],
    sink: new vmar.ArchiveSink(vault, machine),
    description: {
      ...{ namespace: '', guestId: '100', timeSeconds: 1, source: 'image', consistency: 'offline', configs: [] },
      disks: [{ name: 'd', kind: 'disk', sizeBytes: device.lengthBytes }],
    },
    speedBytesPerSecond: 0,
    clock: vmar.REAL_CLOCK,
  });
  expect(await job.run()).toMatchObject({ backup: archive, disks: [{ name: 'd', newBytes: 200_000 }] });
  await device.close();
  await machine.close();

  expect(await vmar.verifyArchive(archive, { mode: 'full', portable: true, workers: 0 })).toMatchObject({ damage: [] });
  const backup = await vmar.openArchive(archive);
  const executor = vmar.createExecutor({ workers: 0, hash: 'blake3', level: 1, clusterSizeBytes: 65536, pools: [] });
  const target = join(directory, 'b.raw');
  await vmar.restoreBackup(backup, [{ disk: 'd', target }], {
    ...{ executor, overwrite: false, targetIsZero: false, allowDamaged: false },
  });
  await backup.close();
  await executor.close();
  expect(readFileSync(target).equals(readFileSync(image))).toBe(true);
});
