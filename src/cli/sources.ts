// SPDX-License-Identifier: MIT
// What backups read from: which plugin opens what, and what each is handed for that.

import { createImageSource } from '../../plugins/source-image/source-image.js';
import { createNbdSource } from '../../plugins/source-nbd/source-nbd.js';
import { UsageError } from '../base/errors.js';
import { openFileDevice } from '../block/file-device.js';
import type { BackupSync } from '../jobs/backup-sync.js';
import { isNbdUri, openNbdDevice } from '../nbd/client/nbd-client.js';
import type { BlockDevice, SourcePlugin } from '../plugin-api.js';
import type { BackupWish } from './backup-wish.js';
import type { Context } from './context.js';
import { type ChangedExports, openExport } from './export-input.js';

export interface OpenSource {
  /** Of the plugin. */
  readonly kind: string;
  readonly device: BlockDevice;
  /** Of all of the disk if untold. */
  readonly sync?: BackupSync;
}

/** Opens the disks in turn and adds them; whoever calls closes what was added, also after a rejection. */
export async function openSources(
  context: Context,
  { disks, forceShare, exports: { bitmaps, discardSource } }: BackupWish,
  changed: ChangedExports | undefined,
  opened: OpenSource[],
  signal: AbortSignal,
): Promise<void> {
  const plugins = createPlugins(context);
  for (const disk of disks) {
    const { name, place } = disk;
    const plugin = plugins.find((each) => each.accepts(place));
    if (plugin === undefined) throw unknownPlace(place);
    const { kind } = plugin;
    const bitmap = bitmaps.get(name);
    if (changed !== undefined && bitmap?.mode === 'reuse') {
      opened.push({ kind, ...(await changed.open(disk, bitmap.name)) });
    } else if (discardSource && isNbdUri(place)) {
      opened.push({ kind, device: await openExport(context, place, { discardSource, signal }) });
    } else opened.push({ kind, device: await plugin.open(place, { forceShare, signal }) });
  }
}

function createPlugins({ log, temporaryDirectory }: Context): readonly SourcePlugin[] {
  const openNbd: typeof openNbdDevice = (uri, options) => openNbdDevice(uri, { log, ...options });
  return [
    createNbdSource({ openNbd }),
    createImageSource({ openFile: openFileDevice, qemu: { temporaryDirectory, openNbd } }),
  ];
}

function unknownPlace(place: string): UsageError {
  return new UsageError('bad-source', 'this is neither a path nor a URI that can be read from', {
    object: place,
    advice: 'Give a file, a block device, nbd://HOST/EXPORT or nbd+unix:///EXPORT?socket=PATH.',
  });
}
