// SPDX-License-Identifier: MIT
// Proves: whatever happens to a monitor's socket, and whatever comes out of it, every call settles with the right error.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { BusyError, InterruptedError } from '#vmar/src/base/errors.js';
import type { QmpEvent } from '#vmar/src/qmp/events.js';
import { checkFeatures } from '#vmar/src/qmp/features.js';
import { QmpClient } from '#vmar/src/qmp/qmp-client.js';
import { QmpCommandError } from '#vmar/src/qmp/qmp-errors.js';
import { seededRandom } from '../base/random.js';
import { scratchDirectory } from '../base/scratch.js';
import { fakeMonitor, fakeServer, GREETING } from './fake-line-server.js';

const directory = scratchDirectory();
const path = join(directory, 'qmp');
const RUNNING = { return: { running: true, status: 'running' } };

describe('QmpClient', () => {
  it('greets, negotiates and asks', async () => {
    const fake = await fakeMonitor(path, () => RUNNING);
    const client = await QmpClient.open(path);
    expect(client.version).toEqual({ major: 7, minor: 2, micro: 22, package: 'Debian' });
    expect(await client.execute('query-status', {})).toEqual({ running: true, status: 'running' });
    expect(fake.lines.map((line) => JSON.parse(line).execute)).toEqual(['qmp_capabilities', 'query-status']);
    await client.close();
    await expect(client.execute('query-status', {})).rejects.toMatchObject({ code: 'qmp-lost' });
  });

  it('keeps answers and commands together, whatever order they come in', async () => {
    const waiting: [string, string][] = [];
    const fake = await fakeMonitor(path, (command, _socket, id) => {
      waiting.push([command, id]);
      return undefined;
    });
    const client = await QmpClient.open(path);
    const name = client.execute('query-name', {});
    const status = client.execute('query-status', {});
    while (waiting.length < 2) await new Promise(setImmediate);
    for (const [command, id] of waiting.reverse()) {
      const said = command === 'query-name' ? { return: { name: 'web' } } : RUNNING;
      fake.sockets[0]!.write(`${JSON.stringify({ ...said, id })}\n`);
    }
    expect(await name).toEqual({ name: 'web' });
    expect((await status).status).toBe('running');
    await client.close();
  });

  it('hands on events with their times', async () => {
    await fakeMonitor(path, (_command, socket) => {
      socket.write('{"event":"STOP","timestamp":{"seconds":1700000000,"microseconds":5}}\n');
      socket.write('{"event":"NIC_RX","timestamp":{"seconds":1,"microseconds":0},"data":{}}\n');
      return { return: {} };
    });
    const client = await QmpClient.open(path);
    const events: QmpEvent[] = [];
    const end = client.onEvent((event) => events.push(event));
    await client.execute('stop', {});
    end();
    await client.execute('cont', {});
    expect(events).toEqual([
      { event: 'STOP', atMicros: 1_700_000_000_000_005 },
      { event: 'other', name: 'NIC_RX', atMicros: 1_000_000 },
    ]);
    await client.close();
  });

  it("keeps QEMU's own words when it refuses", async () => {
    await fakeMonitor(path, () => ({ error: { class: 'GenericError', desc: 'Node x not found' } }));
    const client = await QmpClient.open(path);
    const error = await client.execute('blockdev-del', { 'node-name': 'x' }).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(QmpCommandError);
    expect(error).toMatchObject({
      code: 'qmp-command-failed',
      errorClass: 'GenericError',
      description: 'Node x not found',
    });
    await client.close();
  });

  it('gives up on a silent command, and drops its answer when it comes', async () => {
    const ids: string[] = [];
    const fake = await fakeMonitor(path, (command, _socket, id) => {
      if (command === 'query-status') return RUNNING;
      ids.push(id);
      return undefined;
    });
    const client = await QmpClient.open(path);
    await expect(client.execute('stop', {}, { timeoutMillis: 30 })).rejects.toMatchObject({ code: 'qmp-timeout' });
    fake.sockets[0]!.write(`${JSON.stringify({ return: {}, id: ids[0] })}\n`);
    expect((await client.execute('query-status', {})).running).toBe(true);
    await client.close();
  });

  it('stops waiting when told to', async () => {
    await fakeMonitor(path, () => undefined);
    const client = await QmpClient.open(path);
    const stop = new AbortController();
    const waiting = client.execute('stop', {}, { signal: stop.signal });
    stop.abort();
    await expect(waiting).rejects.toBeInstanceOf(InterruptedError);
    await client.close();
    await expect(QmpClient.open(path, { signal: stop.signal })).rejects.toBeInstanceOf(InterruptedError);
  });

  it('says that nobody listens', async () => {
    // Not cut off, and another's then.
    const long = QmpClient.open(join(directory, 'q'.repeat(120)));
    await expect(long).rejects.toMatchObject({ code: 'socket-path-too-long', exitStatus: 2 });
    await expect(QmpClient.open(join(directory, 'nothing'))).rejects.toMatchObject({ code: 'qmp-missing' });
    writeFileSync(join(directory, 'file'), '');
    await expect(QmpClient.open(join(directory, 'file'))).rejects.toMatchObject({ code: 'not-qmp' });
    await expect(QmpClient.open(directory)).rejects.toMatchObject({ code: 'not-qmp' });
  });

  it('says that another client has it', async () => {
    await fakeServer(path, () => {});
    const opening = QmpClient.open(path, { greetingMillis: 50 });
    await expect(opening).rejects.toBeInstanceOf(BusyError);
    await expect(QmpClient.open(path, { greetingMillis: 50 })).rejects.toMatchObject({ code: 'qmp-busy' });
  });

  it.each([
    ['an NBD server', 'NBDMAGICIHAVEOPT\0\x03'],
    ['a human monitor', 'QEMU 7.2.22 monitor - type "help" for more information\r\n(qemu) '],
    ['a web server', 'HTTP/1.1 400 Bad Request\r\n\r\n'],
    ['another JSON', '{"hello": 1}\n'],
    ['half a greeting', '{"QMP": {"version": 7}}\n'],
    ['broken JSON', '{"QMP"\n'],
  ])('says that %s is no monitor', async (_name, bytes) => {
    await fakeServer(path, (socket) => socket.write(bytes, 'latin1'));
    await expect(QmpClient.open(path)).rejects.toMatchObject({ code: 'not-qmp', exitStatus: 1 });
  });

  it.each([
    ['a text', '"hello"\n'],
    ['no JSON', 'hello\n'],
    ['an event without a time', '{"event":"STOP"}\n'],
    ['neither return nor error', '{"id":"vmar-2"}\n'],
    ['a wrong answer', '{"id":"vmar-2","return":{"running":"yes"}}\n'],
    ['an error without an id', '{"error":{"class":"GenericError","desc":"JSON parse error"}}\n'],
  ])('refuses %s', async (_name, bytes) => {
    await fakeMonitor(path, (_command, socket) => {
      socket.write(bytes);
      return undefined;
    });
    const client = await QmpClient.open(path);
    await expect(client.execute('query-status', {})).rejects.toMatchObject({ code: 'qmp-bad-answer' });
    await client.close();
  });

  it.each(Array.from({ length: 20 }, (_, seed) => seed))(
    'fails, and does not hang, when the socket goes away at any byte, seed %i',
    async (seed) => {
      const random = seededRandom(seed);
      const script = `${GREETING}{"return":{},"id":"vmar-1"}\r\n{"return":{"running":true,"status":"running"},"id":"vmar-2"}\r\n`;
      const cut = random.integer(0, script.length - 1);
      await fakeServer(path, (socket) => {
        socket.write(script.slice(0, cut));
        setTimeout(() => (random.oneIn(2) ? socket.end() : socket.destroy()), random.integer(0, 5));
      });
      const attempt = async () => {
        const client = await QmpClient.open(path, { greetingMillis: 10_000, commandMillis: 10_000 });
        return await client.execute('query-status', {}).finally(() => client.close());
      };
      // The end may come in one piece with the last answer.
      await expect(attempt()).rejects.toMatchObject({ code: 'qmp-lost' });
    },
  );
});

describe('checkFeatures', () => {
  const schema = (names: string[]) => ({ return: [{ name: '1', 'meta-type': 'enum', values: names }] });
  const version = { return: { qemu: { major: 6, minor: 2, micro: 0 }, package: '' } };

  it('names what an old QEMU lacks, and the version that has it', async () => {
    await fakeMonitor(path, (command) =>
      command === 'query-version' ? version : schema(['block-export-add', 'blockdev-reopen', 'copy-before-write']),
    );
    const client = await QmpClient.open(path);
    await expect(checkFeatures(client)).rejects.toMatchObject({
      code: 'qemu-too-old',
      message: 'this QEMU lacks snapshot-access (since 7.0), on-cbw-error (since 7.1), cbw-timeout (since 7.1)',
      expected: 'QEMU 7.1 or later',
      found: 'QEMU 6.2.0',
    });
    await client.close();
  });
});
