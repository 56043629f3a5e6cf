// SPDX-License-Identifier: MIT
// Source of raw disk images: files and block devices.

import { FailedError } from '../../src/base/errors.js';
import type { BlockDevice, SourceOptions, SourcePlugin } from '../../src/plugin-api.js';
import { detectImageFormat, PROBE_BYTES } from './image-format.js';

/** What the plugin needs from vmar. */
export interface ImageHost {
  /** Opens a file or a block device; rejects with a VmarError that names it when it is missing, locked or neither. */
  openFile(path: string, options: { readonly readOnly: true; readonly forceShare: boolean }): Promise<BlockDevice>;
}

export function createImageSource(host: ImageHost): SourcePlugin {
  return {
    kind: 'image',
    accepts: isPath,
    open: (target, options) => openImage(host, target, options),
  };
}

/** Anything but a URI; a path that looks like one is written with "./" before it. */
function isPath(target: string): boolean {
  return target !== '' && !/^[A-Za-z][A-Za-z0-9+.-]*:\/\//.test(target);
}

async function openImage(host: ImageHost, path: string, options: SourceOptions): Promise<BlockDevice> {
  const device = await host.openFile(path, { readOnly: true, forceShare: options.forceShare });
  try {
    await refuseOtherFormats(device);
    return device;
  } catch (error) {
    await device.close();
    throw error;
  }
}

async function refuseOtherFormats(device: BlockDevice): Promise<void> {
  const start = new Uint8Array(Math.min(PROBE_BYTES, device.lengthBytes));
  await device.read(0, start);
  const format = detectImageFormat(start);
  if (format === undefined) return;
  throw new FailedError('format-needs-nbd', `the image is in ${format} format; only raw images can be read directly`, {
    object: device.name,
    expected: 'a raw image',
    found: format,
    advice: `Convert it: qemu-img convert -f ${format} -O raw IMAGE IMAGE.raw`,
  });
}
