// SPDX-License-Identifier: MIT
// Proves, through the command line: a socket that is no monitor, a QEMU that is too old and an agent that is silent are told
// as what they are, in time.

import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bench } from '../cli/bench.js';
import { serve } from '../cli/serving.js';
import { fakeAgent } from './fake-agent.js';
import { fakeMonitor, fakeServer } from './fake-line-server.js';
import { haveMachine, type Machine, startMachine } from './machine.js';

const bench = new Bench();

beforeAll(async () => {
  await bench.json(['init', 'store']);
});

const error = (path: string) => bench.error(['backup', '100', '--qmp', path]);

describe('a monitor', () => {
  it('that is an NBD server', async () => {
    writeFileSync(bench.path('a.raw'), Buffer.alloc(65536));
    await bench.json(['backup', '7', '--disk', 'a=a.raw', '--output', 'a.vmar']);
    const serving = await serve(bench, ['./a.vmar', '--socket', bench.path('nbd')]);
    expect(await error(bench.path('nbd'))).toMatchObject({
      exit: 1,
      code: 'not-qmp',
      object: bench.path('nbd'),
      found: expect.stringContaining('NBDMAGIC'),
      advice: expect.stringContaining('-qmp'),
    });
    await serving.stop();
  });

  it('that is an HTTP server, which says nothing first', async () => {
    const server = http.createServer((_, response) => response.end('hello'));
    await new Promise<void>((resolve) => server.listen(bench.path('http'), resolve));
    const found = await error(bench.path('http'));
    // The program is told where the host lets us know it.
    expect(found).toMatchObject({ exit: 5, code: 'qmp-busy', message: expect.stringContaining('or it is none') });
    expect(found.found).toMatch(/^a socket of /);
    server.close();
  });

  it('for people', async () => {
    await fakeServer(bench.path('hmp'), (socket) => socket.write('QEMU 7.2.22 monitor - type help\r\n(qemu) '));
    expect(await error(bench.path('hmp'))).toMatchObject({ exit: 1, code: 'not-qmp' });
  });

  it('of a QEMU that is too old', async () => {
    const names = ['block-export-add', 'blockdev-reopen', 'copy-before-write'];
    const schema = names.map((name) => ({ 'meta-type': 'command', name }));
    await fakeMonitor(bench.path('old'), (command) => {
      if (command === 'query-version') return { return: { qemu: { major: 6, minor: 2, micro: 0 }, package: '' } };
      if (command === 'query-qmp-schema') return { return: schema };
      return { error: { class: 'CommandNotFound', desc: `The command ${command} has not been found` } };
    });
    expect(await error(bench.path('old'))).toMatchObject({
      exit: 1,
      code: 'qemu-too-old',
      message: 'this QEMU lacks snapshot-access (since 7.0), on-cbw-error (since 7.1), cbw-timeout (since 7.1)',
      expected: 'QEMU 7.1 or later',
      found: 'QEMU 6.2.0',
    });
  });

  it('that closes at once, or answers no more', async () => {
    await fakeServer(bench.path('closing'), (socket) => socket.destroy());
    expect(await error(bench.path('closing'))).toMatchObject({ exit: 1, code: 'qmp-lost' });
    await fakeMonitor(bench.path('vanishing'), (_command, socket) => {
      socket.destroy();
      return undefined;
    });
    expect(await error(bench.path('vanishing'))).toMatchObject({ exit: 1, code: 'qmp-lost' });
  });
});

describe.skipIf(!haveMachine('silent agents'))('an agent', () => {
  let machine: Machine;

  beforeAll(async () => {
    mkdirSync(bench.path('fleece'));
    writeFileSync(bench.path('disk.raw'), Buffer.alloc(65536));
    machine = await startMachine(bench.directory, [
      ...['-drive', `if=none,id=d0,format=raw,file=${bench.path('disk.raw')}`, '-device', 'virtio-blk-pci,drive=d0'],
    ]);
  });

  afterAll(async () => {
    await machine.kill();
  });

  async function backUpWith(agent: string) {
    const words = ['--json', 'backup', '100', '--qmp', machine.qmp, '--fleece', bench.path('fleece'), '--agent', agent];
    const finished = await bench.run(words);
    expect(finished.status).toBe(0);
    expect(finished.json()).toMatchObject({ consistency: 'crash' });
    expect((await bench.json(['show', finished.json().backup])).consistency).toBe('crash');
    expect(await machine.monitor.ask('query-status')).toMatchObject({ running: true });
    return finished;
  }

  it('that takes connections and says nothing, costs some seconds and no backup', async () => {
    const server = net.createServer((socket) => socket.on('error', () => {}));
    await new Promise<void>((resolve) => server.listen(bench.path('silent'), resolve));
    const { stderr } = await backUpWith(bench.path('silent'));
    expect(stderr).toMatch(/crash-consistent: the guest agent did not answer guest-sync-delimited within 5000 ms/);
    server.close();
  });

  it.skipIf(process.env.VMAR_LONG === undefined)('that never ends to freeze is thawed', async () => {
    const agent = await fakeAgent(bench.path('freezing'), undefined);
    const { stderr } = await backUpWith(bench.path('freezing'));
    expect(stderr).toMatch(/crash-consistent: the guest agent did not answer guest-fsfreeze-freeze within 30000 ms/);
    expect(agent.asked.slice(0, 2)).toEqual(['guest-fsfreeze-freeze', 'guest-fsfreeze-thaw']);
  });

  it('is not looked for where there is none', async () => {
    expect(existsSync(bench.path('none'))).toBe(false);
    expect((await backUpWith(bench.path('none'))).stderr).toMatch(/there is no such socket/);
  });
});
