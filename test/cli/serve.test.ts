// SPDX-License-Identifier: MIT
// vmar serve, read by programs that nobody here wrote.

import { existsSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { haveTool } from '../base/scratch.js';
import { Bench } from './bench.js';
import { CLUSTER, makeImage, mixedImage, noise } from './images.js';
import { serve, tool, trial } from './serving.js';

const bench = new Bench();
const TWO_BYTES = 300 << 20;
let archive: string;

beforeAll(async () => {
  await bench.json(['init', bench.store]);
  mixedImage(bench.path('one.raw'));
  makeImage(bench.path('two.raw'), TWO_BYTES, [{ at: 2 ** 27, bytes: noise(20) }]);
  await bench.json(['backup', '100', '--disk', 'drive-one=one.raw', '--disk', 'drive-two=two.raw']);
  archive = bench.path('alone.vmar');
  await bench.json(['backup', '100', '--disk', 'one=one.raw', '--output', archive]);
});

const have = {
  img: haveTool('qemu-img', 'vmar serve with qemu-img'),
  copy: haveTool('nbdcopy', 'vmar serve with nbdcopy'),
  info: haveTool('nbdinfo', 'vmar serve with nbdinfo'),
  io: haveTool('qemu-io', 'vmar serve of damage'),
};

it('says where it listens, ends with 130 at a signal, and takes its socket away', async () => {
  const serving = await serve(bench, ['100', '--socket', 's0']);
  const socket = bench.path('s0');
  expect(serving.document).toEqual({
    backup: expect.stringMatching(/^vm\/100\/20/),
    socket,
    exports: [
      { name: 'drive-one', size: 10 * CLUSTER + 1234, uris: [`nbd+unix:///drive-one?socket=${socket}`] },
      { name: 'drive-two', size: TWO_BYTES, uris: [`nbd+unix:///drive-two?socket=${socket}`] },
    ],
  });
  expect(statSync(socket).mode & 0o777).toBe(0o600);
  const { status, text } = await serving.stop();
  expect(status).toBe(130);
  expect(text.split('\n').length).toBe(2);
  expect(existsSync(socket)).toBe(false);
});

it('prints URIs for people', async () => {
  const running = bench.start(['serve', archive, '--socket', 'people']);
  const text = await new Promise<string>((resolve) => running.child.stdout?.once('data', (data) => resolve(`${data}`)));
  expect(text).toContain(`nbd+unix:///one?socket=${bench.path('people')}`);
  running.child.kill('SIGINT');
  expect((await running.finished).status).toBe(130);
});

describe.skipIf(!have.img || !have.copy || !have.info)('every disk', () => {
  it('is what was backed up, for qemu-img and nbdcopy', async () => {
    const serving = await serve(bench, ['100', '--socket', 's1']);
    for (const disk of ['one', 'two']) {
      const uri = serving.uri(`drive-${disk}`);
      expect(await tool('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', bench.path(`${disk}.raw`), uri)).toContain(
        'identical',
      );
      await tool('nbdcopy', uri, bench.path(`${disk}.copy`));
      expect(await tool('cmp', bench.path(`${disk}.raw`), bench.path(`${disk}.copy`))).toBe('');
    }
    const list = JSON.parse(await tool('nbdinfo', '--list', '--json', `nbd+unix:///?socket=${bench.path('s1')}`));
    expect(list.exports.map((entry: { 'export-name': string }) => entry['export-name']).sort()).toEqual([
      'drive-one',
      'drive-two',
    ]);
    await serving.stop();
  });

  it('shows its holes', async () => {
    const serving = await serve(bench, ['100', '--disk', 'two', '--socket', 's2']);
    const map = JSON.parse(await tool('nbdinfo', '--map', '--json', serving.uri()));
    expect(map.map(({ offset, length, type }: Record<string, number>) => [offset, length, type])).toEqual([
      [0, 2 ** 27, 3],
      [2 ** 27, 20 * CLUSTER, 0],
      [2 ** 27 + 20 * CLUSTER, TWO_BYTES - 2 ** 27 - 20 * CLUSTER, 3],
    ]);
    await serving.stop();
  });

  it('of an archive is the only one, and has the empty name too; it ends when the last reader has left', async () => {
    const serving = await serve(bench, [archive, '--socket', 's3', '--exit-when-idle']);
    const uri = `nbd+unix:///?socket=${bench.path('s3')}`;
    expect(await tool('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', bench.path('one.raw'), uri)).toContain(
      'identical',
    );
    expect((await serving.finished).status).toBe(0);
  });

  it('cannot be written', async () => {
    const serving = await serve(bench, [archive, '--socket', 's4']);
    await expect(tool('nbdcopy', bench.path('one.raw'), serving.uri())).rejects.toThrow();
    await serving.stop();
  });

  it('is served on the network with shared keys, and without TLS on this machine only', async () => {
    writeFileSync(bench.path('keys'), `reader:${'ab'.repeat(32)}\n`, { mode: 0o600 });
    expect(await bench.error(['serve', archive, '--listen', '0.0.0.0:0'])).toMatchObject({
      code: 'plain-refused',
      exit: 2,
    });
    const plain = await serve(bench, [archive, '--listen', '127.0.0.1:0']);
    expect(plain.uri()).toMatch(/^nbd:\/\/127\.0\.0\.1:\d+\/one$/);
    expect(JSON.parse(await tool('nbdinfo', '--json', plain.uri())).exports[0]['export-size']).toBe(
      10 * CLUSTER + 1234,
    );
    await plain.stop();
    const secret = await serve(bench, [archive, '--listen', '127.0.0.1:0', '--tls-psk', 'keys']);
    expect(secret.uri()).toMatch(/^nbds:\/\/reader@127\.0\.0\.1:/);
    const info = JSON.parse(await tool('nbdinfo', '--json', secret.uri()));
    expect(info.TLS).toBe(true);
    await secret.stop();
  });
});

describe('what it is asked for', () => {
  it.each([
    [['100'], 'no-socket', 2],
    [['100', '--socket', ''], 'no-socket', 2],
    [['100', '--socket', 's', '--tls-psk', 'k'], 'needs-listen', 2],
    [['100', '--listen', 'a:b:c'], 'bad-address', 2],
    [['100', '--listen', '127.0.0.1:0', '--tls-cert', 'c'], 'half-of-tls', 2],
    [['100', '--listen', '127.0.0.1:0', '--tls-cert', 'c', '--tls-key', 'k', '--tls-psk', 'p'], 'two-kinds-of-tls', 2],
    [['100', '--socket', 's', '--disk', 'three'], 'no-such-disk', 4],
    [['100', '--socket', 's', '--disk', 'one', '--disk', 'drive-one'], 'duplicate', 2],
    [['200', '--socket', 's'], 'no-such-backup', 4],
    [['100', '--socket', 'store'], 'socket-path-taken', 1],
    [['100', '--socket', 'missing/s'], 'cannot-listen', 1],
  ])('is refused where it makes no sense: %j', async (words, code, exit) => {
    expect(await bench.error(['serve', ...words])).toMatchObject({ code, exit });
  });

  it('is refused on a socket in use, and taken where a server was killed', async () => {
    const first = await serve(bench, ['100', '--socket', 's5']);
    expect(await bench.error(['serve', '100', '--socket', 's5'])).toMatchObject({ code: 'socket-in-use', exit: 5 });
    await first.stop('SIGKILL');
    expect(existsSync(bench.path('s5'))).toBe(true);
    const second = await serve(bench, ['100', '--socket', 's5']);
    expect(readdirSync(join(bench.store, 'locks')).filter((name) => name.startsWith('session-')).length).toBe(1);
    await second.stop();
    expect(await bench.json(['verify'])).toMatchObject({ ok: true });
  });
});

describe.skipIf(!have.io)('damage', () => {
  const read = (uri: string, at: number, bytes: number) =>
    trial('qemu-io', '-r', '-f', 'raw', '-c', `read ${at} ${bytes}`, uri);

  it('is an error of its own range, told of once; the datastore that is away is another', async () => {
    const noisy = Buffer.from(noise(40));
    makeImage(bench.path('three.raw'), 40 * CLUSTER, [{ at: 0, bytes: noisy }]);
    await bench.json(['backup', '300', '--disk', 'three=three.raw']);
    const packs = join(bench.store, 'packs');
    const paths = readdirSync(packs, { recursive: true, encoding: 'utf8' }).map((name) => join(packs, name));
    const path = paths
      .filter((name) => statSync(name).isFile())
      .find((name) => readFileSync(name).includes(noisy.subarray(20 * CLUSTER, 20 * CLUSTER + 512)))!;
    const pack = readFileSync(path);
    const damaged = Buffer.from(pack);
    damaged[damaged.indexOf(noisy.subarray(20 * CLUSTER, 20 * CLUSTER + 512)) + 9]! ^= 1;
    writeFileSync(path, damaged);
    const serving = await serve(bench, ['300', '--socket', 's6']);
    for (let round = 0; round < 2; round++) {
      expect(await read(serving.uri(), 20 * CLUSTER, 4096)).toMatch(/read failed: Input\/output error/);
      expect(await read(serving.uri(), 0, 20 * CLUSTER)).toMatch(/read 1310720\/1310720/);
      expect(await read(serving.uri(), 21 * CLUSTER, 19 * CLUSTER)).toMatch(/read 1245184\/1245184/);
    }
    expect(serving.stderr().match(/are damaged/g)?.length).toBe(1);
    await serving.stop();
    writeFileSync(path, pack);

    const again = await serve(bench, ['300', '--socket', 's7']);
    renameSync(bench.store, `${bench.store}.away`);
    expect(await read(again.uri(), 0, 4096)).toMatch(/read failed: Input\/output error/);
    renameSync(`${bench.store}.away`, bench.store);
    expect(await read(again.uri(), 0, 4096)).toMatch(/read 4096\/4096/);
    expect(again.stderr()).toMatch(/cannot be reached/);
    expect(again.stderr()).not.toMatch(/damaged/);
    await again.stop();
  });
});
