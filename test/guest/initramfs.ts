// SPDX-License-Identifier: MIT
// The initial file system in memory: busybox, the drivers of virtual disks and consoles, and a script.

import { copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { tool } from './tool.js';

/** With what these need. What the kernel has built in is not looked for. */
const DRIVERS = ['crc32c_generic', 'virtio_pci', 'virtio_blk', 'virtio_scsi', 'sd_mod', 'virtio_console'];

export interface InitramfsParts {
  readonly busybox: string;
  /** An unpacked kernel package. */
  readonly kernelTree: string;
  /** An empty directory to work in. */
  readonly work: string;
  readonly output: string;
}

export function makeInitramfs({ busybox, kernelTree, work, output }: InitramfsParts): void {
  for (const name of ['bin', 'dev', 'proc', 'sys', 'root', 'modules']) mkdirSync(join(work, name));
  copyFileSync(busybox, join(work, 'bin/busybox'));
  for (const name of ['sh', 'mount', 'insmod', 'findfs', 'sleep', 'switch_root']) {
    cpSync(join(work, 'bin/busybox'), join(work, 'bin', name));
  }
  const modules = inOrder(findModules(join(kernelTree, 'lib/modules')), DRIVERS);
  for (const path of modules) copyFileSync(path, join(work, 'modules', basename(path)));
  writeFileSync(join(work, 'modules/order'), modules.map((path) => `${basename(path)}\n`).join(''));
  const script = readFileSync(new URL('./inside/initramfs.sh', import.meta.url));
  writeFileSync(join(work, 'init'), script, { mode: 0o755 });
  const names = readdirSync(work, { recursive: true, encoding: 'utf8' }).map((name) => `${name}\n`);
  writeFileSync(output, tool(busybox, ['cpio', '-o', '-H', 'newc'], { cwd: work, stdin: names.join('') }).stdout);
}

/** Paths by name. */
function findModules(directory: string): ReadonlyMap<string, string> {
  const files = readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ko'));
  return new Map(files.map((name) => [basename(name, '.ko').replaceAll('-', '_'), join(directory, name)]));
}

/** Each after what it needs. */
function inOrder(modules: ReadonlyMap<string, string>, wanted: readonly string[]): string[] {
  const order: string[] = [];
  const add = (name: string): void => {
    const path = modules.get(name.replaceAll('-', '_'));
    if (path === undefined || order.includes(path)) return;
    for (const needed of dependencies(path)) add(needed);
    order.push(path);
  };
  for (const name of wanted) add(name);
  return order;
}

/** As the module itself says. */
function dependencies(path: string): string[] {
  const text = readFileSync(path, 'latin1');
  const list = /\0depends=([^\0]*)\0/.exec(text)?.[1] ?? '';
  return list.split(',').filter((name) => name !== '');
}
