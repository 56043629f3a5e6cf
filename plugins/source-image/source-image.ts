// SPDX-License-Identifier: MIT
// Source of disk images: raw files and block devices, and whatever formats QEMU reads.

import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { FailedError } from '../../src/base/errors.js';
import type { BlockDevice, SourceOptions, SourcePlugin } from '../../src/plugin-api.js';
import { checkBackingFormats } from './image-chain.js';
import { detectImageFormat, PROBE_BYTES, splitFormat } from './image-format.js';
import { type ServedImage, type ServerHost, serveImage } from './qemu-server.js';

/** What the plugin needs from vmar. */
export interface ImageHost {
  /** Opens a file or a block device; rejects with a VmarError that names it when it is missing, locked or neither. */
  openFile(path: string, options: { readonly readOnly: true; readonly forceShare: boolean }): Promise<BlockDevice>;
  /** Without it only raw images are read. */
  readonly qemu?: ServerHost;
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

async function openImage(host: ImageHost, target: string, options: SourceOptions): Promise<BlockDevice> {
  const { path, format: named } = splitFormat(target);
  const file = await host.openFile(path, { readOnly: true, forceShare: options.forceShare });
  try {
    const format = named ?? (await detect(file));
    if (format === undefined || format === 'raw') return file;
    if (host.qemu === undefined) throw onlyRaw(path, format);
    if (format === 'qcow2') await checkBackingFormats(path);
    const image = { path: resolve(path), format, forceShare: options.forceShare };
    return throughQemu(file, await serveImage(host.qemu, image, path, options.signal));
  } catch (error) {
    await file.close();
    throw error;
  }
}

/**
 * Undefined for raw. A guest can make its raw disk begin like another format, which names other files of the host as its
 * backing: where a disk is most likely raw, the user has to say what it is.
 */
async function detect(file: BlockDevice): Promise<string | undefined> {
  const start = new Uint8Array(Math.min(PROBE_BYTES, file.lengthBytes));
  await file.read(0, start);
  const format = detectImageFormat(start);
  const looksRaw = file.name.endsWith('.raw') || statSync(file.name).isBlockDevice();
  if (format === undefined || !looksRaw) return format;
  throw new FailedError('format-unclear', `a raw image is expected here, but it begins like one in ${format} format`, {
    object: file.name,
    found: format,
    advice: `Say which it is: raw:${file.name} or ${format}:${file.name}.`,
  });
}

/** Its file stays open, and locked by us, as long as QEMU reads it. */
function throughQemu(file: BlockDevice, { device, end }: ServedImage): BlockDevice {
  return {
    name: file.name,
    lengthBytes: device.lengthBytes,
    alignmentBytes: device.alignmentBytes,
    readOnly: true,
    read: (offsetBytes, into) => device.read(offsetBytes, into),
    write: (offsetBytes, from) => device.write(offsetBytes, from),
    writeZeroes: (offsetBytes, lengthBytes, options) => device.writeZeroes(offsetBytes, lengthBytes, options),
    discard: (offsetBytes, lengthBytes) => device.discard(offsetBytes, lengthBytes),
    flush: () => device.flush(),
    blockStatus: (offsetBytes, lengthBytes) => device.blockStatus(offsetBytes, lengthBytes),
    close: async () => {
      await end();
      await file.close();
    },
  };
}

function onlyRaw(path: string, format: string): FailedError {
  return new FailedError('format-needs-nbd', `the image is in ${format} format; only raw images can be read directly`, {
    object: path,
    expected: 'a raw image',
    found: format,
    advice: `Convert it: qemu-img convert -f ${format} -O raw IMAGE IMAGE.raw`,
  });
}
