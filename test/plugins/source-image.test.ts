// SPDX-License-Identifier: MIT

import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createImageSource } from '#vmar/plugins/source-image/source-image.js';
import { openFileDevice } from '#vmar/src/block/file-device.js';
import { haveTool, scratchDirectory } from '../base/scratch.js';

const directory = scratchDirectory();
const source = createImageSource({ openFile: openFileDevice });
const open = (path: string) => source.open(path, { forceShare: false });

function file(name: string, content: Uint8Array): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

describe('source-image', () => {
  it('accepts paths, not URIs', () => {
    expect(source.kind).toBe('image');
    for (const path of ['disk.raw', '/dev/vg0/disk', './nbd://odd', 'C:', 'a:b/c', '../x']) {
      expect(source.accepts(path)).toBe(true);
    }
    for (const other of ['', 'nbd://host/export', 'nbd+unix:///export?socket=/s', 'https://x']) {
      expect(source.accepts(other)).toBe(false);
    }
  });

  it.each([0, 1, 63, 511, 512, 70_001])('reads a raw file of %i bytes', async (length) => {
    const content = Buffer.alloc(length, 'raw');
    const device = await open(file(`raw-${length}`, content));
    expect(device.readOnly).toBe(true);
    const read = Buffer.alloc(device.lengthBytes);
    await device.read(0, read);
    expect(read.equals(content)).toBe(true);
    await device.close();
  });

  it.each([
    ['qcow2', 'QFI\xfb\0\0\0\x03'],
    ['qed', 'QED\0'],
    ['vmdk', 'KDMV\x01'],
    ['vmdk', 'COWD'],
    ['vmdk', '# Disk DescriptorFile\nversion=1'],
    ['vdi', `${'<<< VirtualBox Disk Image >>>\n'.padEnd(0x40, '\0')}\x7f\x10\xda\xbe`],
    ['vhdx', 'vhdxfile'],
    ['vpc', 'conectix'],
  ])('refuses %s without QEMU', async (format, start) => {
    const path = file(`image.${format}`, Buffer.from(start, 'latin1'));
    await expect(open(path)).rejects.toMatchObject({
      code: 'format-needs-nbd',
      exitStatus: 1,
      object: path,
      found: format,
      advice: expect.stringContaining(`qemu-img convert -f ${format} -O raw`),
    });
    // The refusal gave the image up again.
    await (await openFileDevice(path, { readOnly: false })).close();
  });

  it('passes on what the host says about files that are missing or locked', async () => {
    await expect(open(join(directory, 'none'))).rejects.toMatchObject({ code: 'image-missing' });
    const folder = join(directory, 'folder');
    mkdirSync(folder);
    await expect(open(folder)).rejects.toMatchObject({ code: 'not-an-image' });
    const path = file('locked', Buffer.alloc(10));
    const writer = await openFileDevice(path, { readOnly: false });
    await expect(open(path)).rejects.toMatchObject({ code: 'image-locked' });
    await (await source.open(path, { forceShare: true })).close();
    await writer.close();
  });

  it
    .skipIf(!haveTool('qemu-img', 'image formats as qemu-img writes them'))
    .each(['qcow2', 'qed', 'vmdk', 'vdi', 'vhdx', 'vpc'])('knows %s as qemu-img writes it', async (format) => {
    const path = join(directory, `real.${format}`);
    expect(spawnSync('qemu-img', ['create', '-q', '-f', format, path, '16M']).status).toBe(0);
    await expect(open(path)).rejects.toMatchObject({ code: 'format-needs-nbd', found: format });
  });
});
