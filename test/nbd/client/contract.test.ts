// SPDX-License-Identifier: MIT
// An NbdDevice keeps the contract of BlockDevice, whoever serves it.

import { rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openNbdDevice } from '#vmar/src/nbd/client/nbd-client.js';
import { haveTool, scratchDirectory } from '../../base/scratch.js';
import { deviceContract } from '../../block/device-contract.js';
import { nbdkit, qemuNbd } from './servers.js';

const directory = scratchDirectory();
let count = 0;
const socketPath = () => join(directory, `s${count++}`);

if (haveTool('nbdkit', 'the NBD client against nbdkit')) {
  const over = (...filters: string[]) => {
    return async (lengthBytes: number) => {
      const filterWords = filters.filter((word) => word.startsWith('--'));
      const parameters = filters.filter((word) => !word.startsWith('--'));
      const { uri } = await nbdkit(socketPath(), ...filterWords, 'memory', `size=${lengthBytes}`, ...parameters);
      return await openNbdDevice(uri, { readOnly: false, connections: 4 });
    };
  };
  deviceContract('NbdDevice over nbdkit memory', over());
  deviceContract('NbdDevice without structured replies', over('--no-sr'));
  deviceContract('NbdDevice without zeroing and trimming', over('--filter=nozero', '--filter=nocache'));
  deviceContract(
    'NbdDevice over blocks of 4096 bytes, 64 KiB at most',
    over(
      '--filter=blocksize-policy',
      'blocksize-minimum=4096',
      'blocksize-preferred=4096',
      'blocksize-maximum=64k',
      'blocksize-error-policy=error',
    ),
    { lengthUnit: 4096 },
  );
}

if (haveTool('qemu-nbd', 'the NBD client against qemu-nbd')) {
  deviceContract(
    'NbdDevice over qemu-nbd',
    async (lengthBytes) => {
      const image = join(directory, 'image.raw');
      rmSync(image, { force: true });
      writeFileSync(image, '');
      truncateSync(image, lengthBytes);
      const { uri } = await qemuNbd(socketPath(), '--format=raw', '--shared=4', image);
      return await openNbdDevice(uri, { readOnly: false, connections: 4 });
    },
    { lengthUnit: 512 },
  );
}
