// SPDX-License-Identifier: MIT
// A disk of a live restore, as a switch needs it.

import { closeSync, openSync } from 'node:fs';
import type { Log } from '../../base/log.js';
import { flock } from '../../base/syscalls.js';
import type { LiveDisk } from '../live-disk.js';
import { MovedTarget } from './moved-target.js';
import type { SwitchDisk } from './switch-over.js';

export function switchDiskOf(disk: LiveDisk, socketPath: string, isOnly: boolean, log: Log): SwitchDisk {
  const { name, node, state } = disk;
  let isLocked = true;
  return {
    wish: { disk: name, socketPath, exportNames: isOnly ? [name, ''] : [name] },
    target: { disk: name, path: state.targetPath, isDevice: state.isDevice },
    flush: () => node.flush(),
    letGo: () =>
      node.drained(async () => {
        await state.target.flush();
        state.unlock();
        isLocked = false;
      }),
    takeBack: () => {
      if (isLocked) return;
      try {
        state.lock();
        isLocked = true;
      } catch (error) {
        log.warn(`${name} is served without a lock on its target: ${error instanceof Error ? error.message : error}`);
      }
    },
    end: () => node.replace(new MovedTarget(state.target)),
    begin: () => {
      state.shareLength();
      return holdFile(state.targetPath);
    },
  };
}

/** Whoever finds the node of the run in the guest looks whether its file is held so. */
function holdFile(path: string): () => void {
  const fd = openSync(path, 'r');
  flock(fd, 'exclusive', { wait: false });
  return () => closeSync(fd);
}
