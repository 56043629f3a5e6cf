// SPDX-License-Identifier: MIT
// The guest's system: Debian packages laid out in a directory, with busybox for init, login and shell.

import { chmodSync, lstatSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { tool } from './tool.js';

/** In this order: a directory that is a link elsewhere stays one. */
const MERGED = ['bin', 'sbin', 'lib', 'lib64'];
const MOUNT_POINTS = ['data', 'dev', 'proc', 'run', 'sys', 'tmp', 'root', 'var'];

export const ROOT_LABEL = 'vmar-root';
export const DATA_LABEL = 'vmar-data';
/** What getty says before "login:". */
export const GUEST_NAME = 'vmar-guest';

/** Unpacks a package, without running anything of it. */
export function unpack(packagePath: string, directory: string): void {
  const { stdout } = tool('dpkg-deb', ['--fsys-tarfile', packagePath]);
  tool('tar', ['-x', '--no-same-owner', '--keep-directory-symlink', '-C', directory], { stdin: stdout });
}

/** Makes the whole tree in an empty directory. */
export function makeRootTree(packages: readonly string[], directory: string): void {
  for (const name of MERGED) {
    mkdirSync(join(directory, 'usr', name), { recursive: true });
    symlinkSync(`usr/${name}`, join(directory, name));
  }
  for (const one of packages) unpack(one, directory);
  for (const name of MOUNT_POINTS) mkdirSync(join(directory, name), { recursive: true });
  linkBusybox(directory);
  for (const [path, text] of Object.entries(FILES)) {
    const target = join(directory, path);
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, text);
    if (text.startsWith('#!')) chmodSync(target, 0o755);
  }
}

/** All that it can do and no package brings. */
function linkBusybox(directory: string): void {
  for (const name of tool(busyboxOf(directory), ['--list']).text.trim().split('\n')) {
    const places = ['bin', 'sbin'].map((bin) => join(directory, 'usr', bin, name));
    if (!places.some((place) => lstatSync(place, { throwIfNoEntry: false })))
      symlinkSync('/usr/bin/busybox', places[0]!);
  }
  symlinkSync('/usr/bin/busybox', join(directory, 'usr/sbin/init'));
}

/** Linked statically: it runs on the host too. */
export function busyboxOf(directory: string): string {
  return join(directory, 'usr/bin/busybox');
}

const FILES: Readonly<Record<string, string>> = {
  'etc/passwd': 'root::0:0:root:/root:/bin/sh\n',
  'etc/group': 'root:x:0:\n',
  'etc/hostname': `${GUEST_NAME}\n`,
  'etc/inittab': `::sysinit:/etc/init.d/start
ttyS0::respawn:/bin/getty -L ttyS0 115200 vt100
::shutdown:/etc/init.d/stop
`,
  'etc/init.d/start': readFileSync(new URL('./inside/start.sh', import.meta.url), 'utf8'),
  'etc/init.d/stop': readFileSync(new URL('./inside/stop.sh', import.meta.url), 'utf8'),
  'usr/bin/ledger': readFileSync(new URL('./inside/ledger.sh', import.meta.url), 'utf8'),
};
