// SPDX-License-Identifier: MIT
// What the server makes of clients, byte by byte: the handshake, the errors of requests, limits, and endings.

import { afterEach, describe, expect, it } from 'vitest';
import { ManualClock } from '#vmar/src/base/clock.js';
import { FailedError } from '#vmar/src/base/errors.js';
import type { BlockDevice } from '#vmar/src/block/device.js';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import {
  COMMAND,
  COMMAND_FLAG,
  INFO,
  OPTION,
  OPTION_REPLY,
  TRANSMISSION_FLAG,
  WIRE_ERROR,
} from '#vmar/src/nbd/protocol/constants.js';
import { encodeOption } from '#vmar/src/nbd/protocol/handshake.js';
import {
  decodeInformation,
  decodeMetaContext,
  encodeInfoRequest,
  encodeMetaContextRequest,
} from '#vmar/src/nbd/protocol/option-data.js';
import { RawClient, request } from './raw-client.js';
import { serving } from './serving.js';
import { SlowDevice } from './slow-device.js';

const { serve } = serving();
const MIB = 1 << 20;
const clients: RawClient[] = [];

function client(path: string): RawClient {
  const made = new RawClient(path);
  clients.push(made);
  return made;
}

afterEach(async () => {
  for (const one of clients.splice(0)) await one.close();
});

const last = (replies: readonly { type: number }[]) => replies.at(-1)?.type;
const info = (exportName: string, ...wishes: number[]) => encodeInfoRequest({ exportName, wishes });

describe('in the handshake', () => {
  it('EXPORT_NAME ends it, with zeros unless they are waived', async () => {
    const { socketPath } = await serve(new MemoryDevice(MIB));
    for (const [flags, zeros] of [
      [1, 124],
      [3, 0],
    ] as const) {
      const one = client(socketPath);
      await one.greet(flags);
      one.send(encodeOption(OPTION.exportName));
      const reply = await one.take(10 + zeros);
      expect(reply.readBigUInt64BE(0)).toBe(BigInt(MIB));
      expect(reply.readUInt16BE(8) & TRANSMISSION_FLAG.sendDf, 'no structured replies, no DF').toBe(0);
      expect((await one.ask({ type: COMMAND.read, length: 100 })).data).toHaveLength(100);
      expect(one.heardBytes).toBe(0);
    }
  });

  it('EXPORT_NAME of something that is not there hangs up, GO says so', async () => {
    const { socketPath } = await serve(new MemoryDevice(MIB));
    const one = client(socketPath);
    await one.greet();
    one.send(encodeOption(OPTION.exportName, Buffer.from('x')));
    await one.closed;
    const two = client(socketPath);
    await two.greet();
    expect(last(await two.option(OPTION.go, info('x')))).toBe(OPTION_REPLY.errUnknown);
    expect(last(await two.option(OPTION.go, info('')))).toBe(OPTION_REPLY.ack);
  });

  it('unknown options and wrong ones get their errors, and it goes on', async () => {
    const { socketPath } = await serve(new MemoryDevice(MIB));
    const one = client(socketPath);
    await one.greet();
    const some = Buffer.from('some');
    expect(last(await one.option(OPTION.extendedHeaders))).toBe(OPTION_REPLY.errUnsupported);
    expect(last(await one.option(0xdeadbeef, Buffer.alloc(50)))).toBe(OPTION_REPLY.errUnsupported);
    expect(last(await one.option(OPTION.startTls))).toBe(OPTION_REPLY.errPolicy);
    expect(last(await one.option(OPTION.list, some))).toBe(OPTION_REPLY.errInvalid);
    expect(last(await one.option(OPTION.structuredReply, some))).toBe(OPTION_REPLY.errInvalid);
    expect(last(await one.option(OPTION.go, some))).toBe(OPTION_REPLY.errInvalid);
    expect(last(await one.option(OPTION.info, Buffer.concat([info(''), some])))).toBe(OPTION_REPLY.errInvalid);
    const contexts = encodeMetaContextRequest({ exportName: '', queries: ['base:allocation'] });
    expect(last(await one.option(OPTION.setMetaContext, contexts))).toBe(OPTION_REPLY.errInvalid);
    expect(last(await one.option(OPTION.go, Buffer.alloc((64 << 10) + 1)))).toBe(OPTION_REPLY.errTooBig);
    expect(await one.option(OPTION.abort)).toEqual([{ type: OPTION_REPLY.ack, data: Buffer.alloc(0) }]);
    await one.closed;
  });

  it('INFO tells what is wished for', async () => {
    const device = new MemoryDevice(MIB);
    const { socketPath } = await serve([{ name: 'a', description: 'text', device, readOnly: true }]);
    const one = client(socketPath);
    await one.greet();
    const replies = await one.option(OPTION.info, info('', INFO.name, INFO.description, INFO.blockSize, 99));
    expect(replies.slice(0, -1).map(({ data }) => decodeInformation(data))).toEqual([
      { kind: 'export', sizeBytes: MIB, transmissionFlags: expect.any(Number) },
      { kind: 'name', text: 'a' },
      { kind: 'description', text: 'text' },
      { kind: 'block-size', leastBytes: 1, preferredBytes: 4096, mostBytes: 32 * MIB },
    ]);
  });

  it('contexts are listed by their beginnings, and selected by their names alone', async () => {
    const device = new MemoryDevice(MIB);
    const bitmap = { lengthBytes: MIB, nextDirty: () => undefined, nextClean: (at: number) => at };
    const { socketPath } = await serve([{ name: 'a', device, readOnly: true, bitmaps: [{ name: 'b', bitmap }] }]);
    const one = client(socketPath);
    await one.greet();
    await one.option(OPTION.structuredReply);
    const ask = async (option: number, ...queries: string[]) =>
      (await one.option(option, encodeMetaContextRequest({ exportName: 'a', queries })))
        .slice(0, -1)
        .map(({ data }) => decodeMetaContext(data).name);
    const [allocation, dirty] = ['base:allocation', 'qemu:dirty-bitmap:b'];
    expect(await ask(OPTION.listMetaContext)).toEqual([allocation, dirty]);
    expect(await ask(OPTION.listMetaContext, 'base:')).toEqual([allocation]);
    expect(await ask(OPTION.listMetaContext, 'qemu:')).toEqual([dirty]);
    expect(await ask(OPTION.listMetaContext, 'qemu:dirty-bitmap:')).toEqual([dirty]);
    expect(await ask(OPTION.listMetaContext, 'other:', 'qemu:dirty-bitmap:c')).toEqual([]);
    expect(await ask(OPTION.setMetaContext)).toEqual([]);
    expect(await ask(OPTION.setMetaContext, 'base:', 'qemu:')).toEqual([]);
    expect(await ask(OPTION.setMetaContext, dirty!, dirty!, allocation!)).toEqual([allocation, dirty]);
  });

  it('ends when it takes too long, has too many options, or is no NBD', async () => {
    const clock = new ManualClock();
    const { socketPath } = await serve(new MemoryDevice(MIB), { clock, limits: { options: 3 } });
    const slow = client(socketPath);
    await slow.greet();
    await slow.option(OPTION.list);
    clock.advance(30_000);
    await slow.closed;

    const many = client(socketPath);
    await many.greet();
    for (let count = 0; count < 3; count++) await many.option(OPTION.list);
    many.send(encodeOption(OPTION.list));
    await many.closed;

    for (const bytes of ['GET / HTTP/1.1\r\n\r\n', '\0\0\0\x03GET / HTTP/1.1\r\n\r\n', '\0\0\0\x07']) {
      const stranger = client(socketPath);
      stranger.send(Buffer.from(bytes, 'latin1'));
      await stranger.closed;
    }
  });

  it('works when every byte comes alone', async () => {
    const { socketPath } = await serve(new MemoryDevice(MIB));
    const one = client(socketPath);
    one.socket.setNoDelay(true);
    const session = Buffer.concat([
      Buffer.from([0, 0, 0, 3]),
      encodeOption(OPTION.list),
      encodeOption(OPTION.go, info('')),
      request({ type: COMMAND.write, offset: 5, length: 3 }, Buffer.from('abc')),
      request({ type: COMMAND.read, offset: 4, length: 5, cookie: 2 }),
    ]);
    for (const byte of session) {
      one.socket.write(Buffer.from([byte]));
      await new Promise(setImmediate);
    }
    await one.take(18);
    while ((await one.optionReply()).type !== OPTION_REPLY.ack);
    while ((await one.optionReply()).type !== OPTION_REPLY.ack);
    expect(await one.reply(() => 0)).toMatchObject({ cookie: 1, error: 0 });
    expect(await one.reply(() => 5)).toMatchObject({ cookie: 2, error: 0, data: Buffer.from('\0abc\0') });
  });
});

describe('requests', () => {
  const errorOf = async (one: RawClient, wanted: Parameters<RawClient['ask']>[0], payload?: Uint8Array) =>
    (await one.ask(wanted, payload)).error;

  it.each([false, true])(
    'that are wrong get the prescribed error, and the next is understood; structured: %s',
    async (structured) => {
      const { socketPath } = await serve(new MemoryDevice(MIB));
      const one = client(socketPath);
      await one.go('', structured);
      const { EINVAL, ENOSPC, ENOTSUP } = WIRE_ERROR;
      const two = Buffer.alloc(2);
      expect(await errorOf(one, { type: COMMAND.read, offset: MIB, length: 1 })).toBe(EINVAL);
      expect(await errorOf(one, { type: COMMAND.read, offset: 2 ** 60, length: 1 })).toBe(EINVAL);
      expect(await errorOf(one, { type: COMMAND.read, length: 0xffffffff })).toBe(EINVAL);
      expect(await errorOf(one, { type: COMMAND.read, length: 1, flags: 1 << 9 })).toBe(EINVAL);
      expect(await errorOf(one, { type: COMMAND.read, length: 1, flags: COMMAND_FLAG.df })).toBe(
        structured ? 0 : EINVAL,
      );
      expect(await errorOf(one, { type: COMMAND.write, offset: MIB - 1, length: 2 }, two)).toBe(ENOSPC);
      expect(await errorOf(one, { type: COMMAND.write, length: 2, flags: COMMAND_FLAG.df }, two)).toBe(EINVAL);
      expect(await errorOf(one, { type: COMMAND.trim, offset: MIB - 1, length: 2 })).toBe(EINVAL);
      expect(await errorOf(one, { type: COMMAND.writeZeroes, offset: MIB - 1, length: 2 })).toBe(ENOSPC);
      expect(await errorOf(one, { type: COMMAND.writeZeroes, length: 2, flags: COMMAND_FLAG.fastZero })).toBe(ENOTSUP);
      expect(await errorOf(one, { type: COMMAND.flush, length: 1 })).toBe(EINVAL);
      expect(await errorOf(one, { type: COMMAND.blockStatus, length: 1 })).toBe(EINVAL);
      expect(await errorOf(one, { type: 99, length: 77 })).toBe(EINVAL);
      expect(await errorOf(one, { type: COMMAND.read, offset: MIB, length: 0 })).toBe(0);
      expect(await errorOf(one, { type: COMMAND.write, length: 0 })).toBe(0);
      expect(await errorOf(one, { type: COMMAND.flush, flags: COMMAND_FLAG.fua })).toBe(0);
      expect((await one.ask({ type: COMMAND.read, length: 9 })).data).toEqual(Buffer.alloc(9));
    },
  );

  it('a WRITE that is too large is read past, not kept', async () => {
    const { socketPath } = await serve(new MemoryDevice(64 * MIB));
    const one = client(socketPath);
    await one.go();
    one.send(request({ type: COMMAND.write, length: 33 * MIB }), Buffer.alloc(33 * MIB));
    expect(await one.reply(() => 0)).toMatchObject({ error: WIRE_ERROR.EINVAL });
    expect(await errorOf(one, { type: COMMAND.read, length: 5 })).toBe(0);
  });

  it('that write are refused on a read-only export', async () => {
    const { socketPath } = await serve(new MemoryDevice(MIB), { readOnly: true });
    const one = client(socketPath);
    await one.go();
    expect(await errorOf(one, { type: COMMAND.write, length: 2 }, Buffer.alloc(2))).toBe(WIRE_ERROR.EPERM);
    expect(await errorOf(one, { type: COMMAND.trim, length: 2 })).toBe(WIRE_ERROR.EPERM);
    expect(await errorOf(one, { type: COMMAND.writeZeroes, length: 2 })).toBe(WIRE_ERROR.EPERM);
    expect(await errorOf(one, { type: COMMAND.flush })).toBe(0);
  });

  it('get the error of the device', async () => {
    const device: BlockDevice = new MemoryDevice(MIB);
    device.read = () => Promise.reject(new FailedError('read-failed', 'bad disk'));
    device.write = () => Promise.reject(new FailedError('no-space', 'full'));
    device.flush = () => Promise.reject(new Error('odd'));
    const { socketPath } = await serve(device);
    for (const structured of [false, true]) {
      const one = client(socketPath);
      await one.go('', structured);
      expect(await errorOf(one, { type: COMMAND.read, length: 2 })).toBe(WIRE_ERROR.EIO);
      expect(await errorOf(one, { type: COMMAND.write, length: 2 }, Buffer.alloc(2))).toBe(WIRE_ERROR.ENOSPC);
      expect(await errorOf(one, { type: COMMAND.writeZeroes, length: 2, flags: COMMAND_FLAG.fua })).toBe(
        WIRE_ERROR.EIO,
      );
      expect(await errorOf(one, { type: COMMAND.writeZeroes, length: 2 })).toBe(0);
    }
  });

  it('with FUA are flushed before they are answered', async () => {
    const device = new MemoryDevice(MIB);
    const calls: string[] = [];
    for (const name of ['write', 'writeZeroes', 'discard', 'flush'] as const) {
      Object.assign(device, { [name]: async () => void calls.push(name) });
    }
    const { socketPath } = await serve(device);
    const one = client(socketPath);
    await one.go();
    for (const type of [COMMAND.write, COMMAND.writeZeroes, COMMAND.trim]) {
      const payload = type === COMMAND.write ? Buffer.alloc(2) : undefined;
      await one.ask({ type, length: 2, flags: COMMAND_FLAG.fua }, payload);
      await one.ask({ type, length: 2 }, payload);
    }
    expect(calls.join(' ')).toBe('write flush write writeZeroes flush writeZeroes discard flush discard');
  });

  it('are answered out of order', async () => {
    const device = new SlowDevice(MIB);
    const { socketPath } = await serve(device);
    const one = client(socketPath);
    await one.go();
    one.send(request({ type: COMMAND.read, length: 512, cookie: 1 }), request({ type: COMMAND.flush, cookie: 2 }));
    expect(await one.reply(() => 0)).toMatchObject({ cookie: 2 });
    device.letGo();
    expect(await one.reply(() => 512)).toMatchObject({ cookie: 1 });
  });
});
