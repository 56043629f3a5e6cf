// SPDX-License-Identifier: MIT
// Our server with clients that nobody here wrote.

import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { DirtyBitmap } from '#vmar/src/block/dirty-bitmap.js';
import { openFileDevice } from '#vmar/src/block/file-device.js';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import { seededRandom } from '../../base/random.js';
import { haveTool } from '../../base/scratch.js';
import { run, serving } from './serving.js';

const { directory, serve } = serving();
const MIB = 1 << 20;

/** 8 MiB: two of random bytes at 1 MiB, the rest zero. */
async function someMemory(name = 'memory'): Promise<MemoryDevice> {
  const device = new MemoryDevice(8 * MIB, { name });
  await device.write(MIB, seededRandom(1).bytes(2 * MIB));
  return device;
}

async function content(device: MemoryDevice): Promise<Buffer> {
  const bytes = Buffer.alloc(device.lengthBytes);
  await device.read(0, bytes);
  return bytes;
}

describe.skipIf(!haveTool('nbdinfo', 'the server with nbdinfo'))('nbdinfo', () => {
  it('sees what the export can do', async () => {
    const { uri } = await serve(await someMemory());
    const { status, stdout } = await run('nbdinfo', ['--json', uri()]);
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      protocol: 'newstyle-fixed',
      TLS: false,
      structured: true,
      exports: [
        {
          'export-size': 8 * MIB,
          contexts: ['base:allocation'],
          is_read_only: false,
          can_df: true,
          can_flush: true,
          can_fua: true,
          can_multi_conn: true,
          can_trim: true,
          can_zero: true,
          block_size_minimum: 1,
          block_size_preferred: 4096,
          block_size_maximum: 32 * MIB,
        },
      ],
    });
  });

  it('lists exports with descriptions and bitmaps', async () => {
    const device = await someMemory();
    const bitmap = new DirtyBitmap(8 * MIB, 65536);
    const { uri } = await serve([
      { name: 'scsi0', description: 'the first', device, readOnly: true, bitmaps: [{ name: 'changed', bitmap }] },
      { name: 'scsi1', device, readOnly: false, isDefault: true },
    ]);
    const { stdout } = await run('nbdinfo', ['--list', '--json', uri()]);
    expect(JSON.parse(stdout).exports).toMatchObject([
      {
        'export-name': 'scsi0',
        description: 'the first',
        is_read_only: true,
        contexts: ['base:allocation', 'qemu:dirty-bitmap:changed'],
      },
      { 'export-name': 'scsi1', is_read_only: false, contexts: ['base:allocation'] },
    ]);
    expect((await run('nbdinfo', ['--size', uri('scsi0')])).stdout).toBe(`${8 * MIB}\n`);
    expect((await run('nbdinfo', ['--is', 'read-only', uri()])).status, '"" is the default, scsi1').not.toBe(0);
    expect((await run('nbdinfo', ['--size', uri('other')])).status).not.toBe(0);
  });

  it('maps what is stored', async () => {
    const { uri } = await serve(await someMemory());
    const { stdout } = await run('nbdinfo', ['--map', '--json', uri()]);
    expect(JSON.parse(stdout)).toMatchObject([
      { offset: 0, length: MIB, type: 3 },
      { offset: MIB, length: 2 * MIB, type: 0 },
      { offset: 3 * MIB, length: 5 * MIB, type: 3 },
    ]);
  });

  it('maps what is dirty', async () => {
    const device = await someMemory();
    const bitmap = new DirtyBitmap(8 * MIB, 65536);
    bitmap.set(0, 1);
    bitmap.set(2 * MIB, MIB);
    const { uri } = await serve([{ name: 'a', device, readOnly: true, bitmaps: [{ name: 'b', bitmap }] }]);
    const { stdout } = await run('nbdinfo', ['--map=qemu:dirty-bitmap:b', '--json', uri('a')]);
    expect(JSON.parse(stdout)).toMatchObject([
      { offset: 0, length: 65536, type: 1 },
      { offset: 65536, length: 2 * MIB - 65536, type: 0 },
      { offset: 2 * MIB, length: MIB, type: 1 },
      { offset: 3 * MIB, length: 5 * MIB, type: 0 },
    ]);
  });
});

describe.skipIf(!haveTool('nbdcopy', 'the server with nbdcopy'))('nbdcopy', () => {
  it.each([1, 4])('copies out and in again, with %i connections', async (connections) => {
    const from = await someMemory();
    const { uri } = await serve(from);
    const file = join(directory, `copy-${connections}`);
    expect((await run('nbdcopy', [`--connections=${connections}`, uri(), file])).status).toBe(0);
    expect(readFileSync(file).equals(await content(from))).toBe(true);

    const to = new MemoryDevice(8 * MIB);
    await to.write(0, Buffer.alloc(8 * MIB, 7));
    const other = await serve(to);
    const copied = await run('nbdcopy', ['--flush', `--connections=${connections}`, file, other.uri()]);
    expect(copied).toMatchObject({ status: 0 });
    expect((await content(to)).equals(await content(from))).toBe(true);
  });
});

describe.skipIf(!haveTool('qemu-img', 'the server with qemu-img'))('qemu-img', () => {
  it('compares, maps and converts', async () => {
    const device = await someMemory();
    const file = join(directory, 'compared');
    writeFileSync(file, await content(device));
    const { uri } = await serve(device);
    const compared = await run('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', file, uri()]);
    expect(compared).toMatchObject({ status: 0, stdout: 'Images are identical.\n' });
    const { stdout } = await run('qemu-img', ['map', '--output=json', '-f', 'raw', uri()]);
    expect(JSON.parse(stdout)).toMatchObject([
      { start: 0, length: MIB, zero: true, data: false },
      { start: MIB, length: 2 * MIB, zero: false, data: true },
      { start: 3 * MIB, length: 5 * MIB, zero: true, data: false },
    ]);

    const target = new MemoryDevice(8 * MIB);
    await target.write(0, Buffer.alloc(8 * MIB, 9));
    const other = await serve(target);
    const converted = await run('qemu-img', ['convert', '-n', '-f', 'raw', '-O', 'raw', uri(), other.uri()]);
    expect(converted).toMatchObject({ status: 0 });
    expect((await content(target)).equals(await content(device))).toBe(true);
  });
});

describe.skipIf(!haveTool('qemu-io', 'the server with qemu-io'))('qemu-io', () => {
  const io = (uri: string, ...commands: string[]) =>
    run('qemu-io', ['-f', 'raw', '-t', 'none', ...commands.flatMap((command) => ['-c', command]), uri]);

  it('writes, zeroes, discards, flushes and reads back', async () => {
    const device = new MemoryDevice(8 * MIB);
    const { uri } = await serve(device);
    const { status, stdout } = await io(
      uri(),
      'write -P 1 0 4M',
      'write -f -P 2 512 1k',
      'write -z 1M 1M',
      'write -z -u -f 2M 64k',
      'discard 3M 64k',
      'flush',
      'aio_write -P 3 5M 64k',
      'aio_flush',
      'read -P 1 0 512',
      'read -P 2 512 1k',
      'read -P 0 1M 1M',
      'read -P 0 2M 64k',
      'read -P 3 5M 64k',
    );
    expect(stdout).not.toMatch(/fail|error/i);
    expect(status).toBe(0);
    const model = Buffer.alloc(8 * MIB);
    model.fill(1, 0, 4 * MIB);
    model.fill(2, 512, 1536);
    model.fill(0, MIB, 2 * MIB + 65536);
    model.fill(3, 5 * MIB, 5 * MIB + 65536);
    const bytes = await content(device);
    for (const buffer of [model, bytes]) buffer.fill(0, 3 * MIB, 3 * MIB + 65536);
    expect(bytes.equals(model)).toBe(true);
  });

  it('cannot write a read-only export', async () => {
    const { uri } = await serve(await someMemory(), { readOnly: true });
    const { status, stderr } = await io(uri(), 'write -P 1 0 512');
    expect(status).not.toBe(0);
    expect(stderr).toMatch(/permission denied/i);
  });
});

describe.skipIf(!haveTool('fio', 'the server with fio'))('fio', () => {
  it('writes randomly, 16 at once, and verifies', async () => {
    const file = join(directory, 'fio.raw');
    writeFileSync(file, Buffer.alloc(16 * MIB));
    const { uri } = await serve(await openFileDevice(file, { readOnly: false }));
    const job = ['--name=verify', '--ioengine=nbd', `--uri=${uri()}`, '--rw=randwrite', '--bsrange=512-256k'];
    const size = [
      '--iodepth=16',
      '--size=16m',
      '--verify=crc32c',
      '--do_verify=1',
      '--verify_state_save=0',
      '--output-format=json',
    ];
    const { status, stdout, stderr } = await run('fio', [...job, ...size]);
    expect(status, stderr).toBe(0);
    const start = stdout.indexOf('{');
    expect(JSON.parse(stdout.slice(start)).jobs[0]).toMatchObject({ error: 0 });
  });
});

/** The one that libnbd's module was made for, whatever else is in the PATH. */
const PYTHON = '/usr/bin/python3';

function haveLibnbd(): boolean {
  const found = spawnSync(PYTHON, ['-c', 'import nbd'], { stdio: 'ignore' }).status === 0;
  if (!found) console.warn('\n!!! python3-libnbd is missing: NOT TESTED: errors of the protocol with libnbd\n');
  return found;
}

describe.skipIf(!haveLibnbd())('libnbd', () => {
  it('reads structured and simple, sees holes, and gets the errors of the protocol document', async () => {
    const { uri } = await serve(await someMemory());
    const script = `
import errno, nbd
def refused(number, action):
    try:
        action()
    except nbd.Error as error:
        assert error.errnum == number, error
    else:
        raise Exception("not refused")
size = 8 << 20
for structured in (True, False):
    h = nbd.NBD()
    h.set_request_structured_replies(structured)
    h.set_strict_mode(0)
    h.connect_uri("${uri()}")
    assert h.get_structured_replies_negotiated() == structured
    data = h.pread(3 << 20, 1 << 20)
    assert len(set(data)) > 1
    assert h.pread(65536, 0) == bytearray(65536)
    if structured:
        kinds = []
        h.pread_structured(65536, 0, lambda d, o, s, e: kinds.append(s))
        assert kinds == [nbd.READ_HOLE], kinds
        kinds = []
        h.pread_structured(65536, 0, lambda d, o, s, e: kinds.append(s), nbd.CMD_FLAG_DF)
        assert kinds == [nbd.READ_DATA], kinds
    refused(errno.EINVAL, lambda: h.pread(1, size))
    refused(errno.EINVAL, lambda: h.pread(2, size - 1))
    refused(errno.EINVAL, lambda: h.trim(1, size))
    refused(errno.ENOSPC, lambda: h.pwrite(b"ab", size - 1))
    refused(errno.ENOSPC, lambda: h.zero(2, size - 1))
    refused(errno.ENOSPC, lambda: h.zero(0xffffffff, 0))
    refused(errno.EINVAL, lambda: h.trim(0xffffffff, 0))
    refused(errno.EINVAL, lambda: h.block_status(1 << 20, 0, lambda *a: 0))
    refused(errno.ENOTSUP, lambda: h.zero(4096, 0, nbd.CMD_FLAG_FAST_ZERO))
    h.pwrite(b"", 0)
    h.zero(0, size)
    h.trim(0, 0)
    h.flush()
    assert h.pread(5, size - 5) == bytearray(5)
    h.shutdown()
`;
    const { status, stderr } = await run(PYTHON, ['-c', script]);
    expect(status, stderr).toBe(0);
  });
});
