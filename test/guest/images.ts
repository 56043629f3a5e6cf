// SPDX-License-Identifier: MIT
// Everything that a guest is started from: kernel, initial file system, and file system images, made without root.

import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { makeInitramfs } from './initramfs.js';
import type { GuestPackages } from './packages.js';
import { busyboxOf, DATA_LABEL, makeRootTree, ROOT_LABEL, unpack } from './root-tree.js';
import { tool } from './tool.js';

export interface GuestImages {
  readonly kernel: string;
  readonly initramfs: string;
  /** Raw ext4 images. */
  readonly root: string;
  readonly data: string;
}

export function makeImages(packages: GuestPackages, directory: string): GuestImages {
  const at = (name: string) => join(directory, name);
  for (const name of ['kernel', 'tree', 'initramfs']) mkdirSync(at(name), { recursive: true });
  unpack(packages.kernel, at('kernel'));
  makeRootTree(packages.userland, at('tree'));
  const initramfs = at('initrd');
  makeInitramfs({
    ...{ busybox: busyboxOf(at('tree')), kernelTree: at('kernel'), work: at('initramfs'), output: initramfs },
  });
  const kernel = readdirSync(at('kernel/boot')).find((name) => name.startsWith('vmlinuz-'));
  if (kernel === undefined) throw new Error('no kernel in the package');
  makeFileSystem(at('root.raw'), ROOT_LABEL, '640M', ['-d', at('tree')]);
  makeFileSystem(at('data.raw'), DATA_LABEL, '192M', []);
  rmSync(at('tree'), { recursive: true });
  return { kernel: join(at('kernel/boot'), kernel), initramfs, root: at('root.raw'), data: at('data.raw') };
}

/** Whole at once: nothing is left for the guest to do behind the test's back. */
function makeFileSystem(path: string, label: string, size: string, more: readonly string[]): void {
  const now = 'lazy_itable_init=0,lazy_journal_init=0';
  tool('mke2fs', ['-q', '-t', 'ext4', '-m', '0', '-E', now, '-L', label, ...more, path, size]);
}
