// SPDX-License-Identifier: MIT
// Proves: the client and its decoders understand a real QEMU, and survive its death.

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { checkFeatures } from '#vmar/src/qmp/features.js';
import { QmpClient } from '#vmar/src/qmp/qmp-client.js';
import { scratchDirectory } from '../base/scratch.js';
import { haveStorageDaemon, startStorageDaemon } from './storage-daemon.js';

const directory = scratchDirectory();

describe.skipIf(!haveStorageDaemon('the QMP client against QEMU'))('against qemu-storage-daemon', () => {
  it('asks for what a backup asks, keeps others out, and notices the end', async () => {
    const image = join(directory, 'a.qcow2');
    spawnSync('qemu-img', ['create', '-q', '-f', 'qcow2', image, '8M']);
    const daemon = await startStorageDaemon(directory, [{ name: 'a', image, format: 'qcow2' }]);
    try {
      const client = await QmpClient.open(daemon.qmp);
      expect((await checkFeatures(client)).major).toBeGreaterThanOrEqual(7);
      const nodes = await client.execute('query-named-block-nodes', { flat: true });
      expect(nodes.find(({ nodeName }) => nodeName === 'a-image')).toMatchObject({
        driver: 'qcow2',
        sizeBytes: 8 << 20,
        fileName: image,
      });
      expect(await client.execute('query-block-exports', {})).toMatchObject([{ type: 'fuse', nodeName: 'a' }]);
      const { edges } = await client.execute('x-debug-query-block-graph', {});
      expect(edges).toContainEqual({ parent: 'a', child: 'a-image', name: 'file' });
      const add = { node: 'a-image', name: 'b', granularity: 65536, persistent: true };
      await client.execute('transaction', { actions: [{ type: 'block-dirty-bitmap-add', data: add }] });
      await expect(client.execute('block-dirty-bitmap-add', add)).rejects.toMatchObject({ code: 'qmp-command-failed' });

      // A second one waits for its greeting until the first has gone.
      await expect(QmpClient.open(daemon.qmp, { greetingMillis: 100 })).rejects.toMatchObject({ code: 'qmp-busy' });
      await client.close();
      const second = await QmpClient.open(daemon.qmp);
      await daemon.kill();
      await expect(second.execute('query-jobs', {})).rejects.toMatchObject({ code: 'qmp-lost' });
    } finally {
      await daemon.kill();
    }
    await expect(QmpClient.open(daemon.qmp)).rejects.toMatchObject({ code: 'qmp-missing' });
  });
});
