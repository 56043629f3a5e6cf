// SPDX-License-Identifier: MIT
// How QEMU's programs are called to export an image.

import { statSync } from 'node:fs';

export interface ExportedImage {
  /** Absolute. */
  readonly path: string;
  readonly format: string;
  readonly forceShare: boolean;
}

export interface QemuCommand {
  readonly program: string;
  readonly words: readonly string[];
}

export const EXPORT_NAME = 'disk';
/** As many as the client uses, and one more for whoever looks. */
const MOST_CLIENTS = 8;

/** The programs that will do, the best first; read-only, and without guessing any format of the image itself. */
export function qemuCommands(image: ExportedImage, socket: string): readonly QemuCommand[] {
  const node = blockNode(image);
  return [
    {
      program: 'qemu-nbd',
      words: [
        '--read-only',
        '--persistent',
        `--socket=${socket}`,
        `--shared=${MOST_CLIENTS}`,
        `--export-name=${EXPORT_NAME}`,
        `json:${JSON.stringify(node)}`,
      ],
    },
    {
      program: 'qemu-storage-daemon',
      words: [
        '--blockdev',
        JSON.stringify({ ...node, 'node-name': 'disk', 'read-only': true }),
        '--nbd-server',
        JSON.stringify({ addr: { type: 'unix', path: socket }, 'max-connections': MOST_CLIENTS }),
        '--export',
        JSON.stringify({ type: 'nbd', id: 'disk', 'node-name': 'disk', name: EXPORT_NAME, writable: false }),
      ],
    },
  ];
}

/** As JSON: in any other form parts of a file name could be taken for a protocol or an option. */
function blockNode({ path, format, forceShare }: ExportedImage) {
  const driver = statSync(path).isBlockDevice() ? 'host_device' : 'file';
  const share = forceShare ? { 'force-share': true } : {};
  return { driver: format, ...share, file: { driver, filename: path, ...share } };
}
