// SPDX-License-Identifier: MIT
// The thread behind ThreadedBytes: reads, decompresses, and fills pieces of the memory that both see.

import { fstatSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { encodeError } from '../../pipeline/error-message.js';
import type { ByteStream } from './byte-stream.js';
import { decompressed } from './decompressed.js';
import { FileBytes } from './file-bytes.js';
import { type FilledPiece, PieceRooms } from './piece-rooms.js';
import { PipeBytes } from './pipe-bytes.js';
import type { FromThread, ThreadSettings, ToThread } from './threaded-bytes.js';

const port = parentPort!;
const { fd, name, memory } = workerData as ThreadSettings;
const rooms = new PieceRooms(memory);
let unreported = 0;
let stream: ByteStream | undefined;

port.on('message', (message: ToThread) => {
  if (message !== 'close') {
    rooms.giveBack(message.free);
    return;
  }
  // Then nothing keeps the thread.
  port.close();
  rooms.close();
  void stream?.close();
});

function tell(message: FromThread): void {
  port.postMessage(message);
}

/** What was read since this was asked last. */
function takeUnreported(): number {
  const readBytes = unreported;
  unreported = 0;
  return readBytes;
}

function tellPiece({ index, lengthBytes }: FilledPiece): void {
  tell({ kind: 'piece', index, lengthBytes, readBytes: takeUnreported() });
}

async function run(): Promise<void> {
  const reading = {
    onRead: (bytes: number) => {
      unreported += bytes;
    },
  };
  const stat = fstatSync(fd);
  const isPipe = stat.isFIFO() || stat.isSocket();
  stream = isPipe ? new PipeBytes(fd, name, reading) : FileBytes.of(fd, name, reading);
  stream = await decompressed(stream, rooms);
  for (let piece = await stream.next(); piece !== undefined; piece = await stream.next()) {
    for await (const filled of rooms.fill(piece)) tellPiece(filled);
  }
  for (const filled of rooms.rest()) tellPiece(filled);
  tell({ kind: 'end', readBytes: takeUnreported() });
}

run().catch((error: unknown) => tell({ kind: 'error', error: encodeError(error) }));
