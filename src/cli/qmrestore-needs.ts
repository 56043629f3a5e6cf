// SPDX-License-Identifier: MIT
// What qmrestore needs of a .vma file beside its disks: a qemu-server.conf, and in it for each disk a line that says which
// device of the archive it is. vzdump writes such lines; a guest's plain configuration file has none.

import type { Manifest } from '../../formats/vmar/manifest.js';

const CONFIG = 'qemu-server.conf';
/** Drive, device of the archive, storage, format. */
const MAP_LINE = /^#qmdump#map:[^\s:]+:([^\s:]+):[^\s:]*:[^\s:]*:\r?$/gm;

/** What qmrestore would not give back, in words; undefined where it gives back all. */
export function lackingForQmrestore({ configs, disks }: Pick<Manifest, 'configs' | 'disks'>): string | undefined {
  const config = configs.find(({ name }) => name === CONFIG);
  if (config === undefined) return `qmrestore does not take it: the backup holds no ${CONFIG}`;
  const mapped = new Set([...new TextDecoder().decode(config.content).matchAll(MAP_LINE)].map(([, device]) => device));
  const left = disks.filter(({ kind, name }) => kind === 'disk' && !mapped.has(name)).map(({ name }) => name);
  if (left.length === 0) return undefined;
  return `qmrestore leaves out ${left.join(', ')}: ${CONFIG} has no line #qmdump#map:DRIVE:DEVICE:STORAGE:FORMAT: of it`;
}
