// SPDX-License-Identifier: MIT
// TLS of the server, with clients on GnuTLS: libnbd's tools and QEMU's.

import { readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import { NbdServer } from '#vmar/src/nbd/server/nbd-server.js';
import { parsePsk } from '#vmar/src/nbd/tls-psk.js';
import type { TlsOptions } from '#vmar/src/nbd/tls-server.js';
import { seededRandom } from '../../base/random.js';
import { haveTool, scratchDirectory } from '../../base/scratch.js';
import { type Certificates, makeCertificates, makePskFile } from './certificates.js';
import { run } from './serving.js';

const directory = scratchDirectory();
const MIB = 1 << 20;
const KEY = '0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef';
let certificates: Certificates;
let server: NbdServer | undefined;

beforeAll(() => {
  certificates = makeCertificates(directory);
  makePskFile(join(directory, 'keys.psk'), 'alice', KEY);
});

afterEach(async () => {
  await server?.close({ graceMillis: 100 });
  server = undefined;
});

function withCertificate(clientsNeedOne: boolean): TlsOptions {
  const file = (name: string) => join(certificates.directory, name);
  return {
    kind: 'certificate',
    certificatePath: file('server-cert.pem'),
    keyPath: file('server-key.pem'),
    ...(clientsNeedOne ? { clientAuthorityPath: file('ca-cert.pem') } : {}),
  };
}

async function serve(tls?: TlsOptions): Promise<number> {
  const device = new MemoryDevice(8 * MIB);
  await device.write(0, seededRandom(5).bytes(8 * MIB));
  server = new NbdServer({ exports: [{ name: 'disk', device, readOnly: false }] });
  return (await server.listenTcp('127.0.0.1', 0, tls)).port;
}

/** The size that nbdinfo sees, or its complaint. */
async function nbdinfo(uri: string): Promise<string> {
  const { status, stdout, stderr } = await run('nbdinfo', ['--size', uri]);
  return status === 0 ? stdout.trim() : `failed: ${stderr}`;
}

const SIZE = String(8 * MIB);

describe.skipIf(!haveTool('nbdinfo', 'TLS with libnbd'))('with libnbd', () => {
  const secure = (port: number, pki: string) => `nbds://localhost:${port}/disk?tls-certificates=${pki}`;

  it('a certificate of the server is enough, unless clients must have one', async () => {
    expect(await nbdinfo(secure(await serve(withCertificate(false)), certificates.anonymousDirectory))).toBe(SIZE);
  });

  it('clients show theirs where they must', async () => {
    const port = await serve(withCertificate(true));
    expect(await nbdinfo(secure(port, certificates.directory))).toBe(SIZE);
    expect(await nbdinfo(secure(port, certificates.anonymousDirectory))).toMatch(/^failed/);
    expect(await nbdinfo(secure(port, certificates.strangerDirectory))).toMatch(/^failed/);
  });

  it('nobody gets in without TLS', async () => {
    const port = await serve(withCertificate(false));
    expect(await nbdinfo(`nbd://localhost:${port}/disk`)).toMatch(/^failed.*TLS/s);
    expect((await run('nbdinfo', ['--list', `nbd://localhost:${port}`])).status).not.toBe(0);
  });

  it('keys shared beforehand', async () => {
    const port = await serve({ kind: 'psk', path: join(directory, 'keys.psk') });
    const uri = (name: string, file: string) => `nbds://${name}@localhost:${port}/disk?tls-psk-file=${file}`;
    expect(await nbdinfo(uri('alice', join(directory, 'keys.psk')))).toBe(SIZE);
    const wrong = join(directory, 'wrong.psk');
    writeFileSync(wrong, `alice:${KEY.replace('0', 'f')}\nbob:${KEY}\n`);
    expect(await nbdinfo(uri('alice', wrong))).toMatch(/^failed/);
    expect(await nbdinfo(uri('bob', wrong))).toMatch(/^failed/);
  });

  it('copies a disk through it, with several connections', async () => {
    const port = await serve(withCertificate(true));
    const uri = secure(port, certificates.directory);
    const [before, after] = [join(directory, 'before'), join(directory, 'after')];
    expect(await run('nbdcopy', ['--connections=3', uri, before])).toMatchObject({ status: 0 });
    expect(readFileSync(before).equals(seededRandom(5).bytes(8 * MIB))).toBe(true);
    writeFileSync(before, seededRandom(6).bytes(8 * MIB));
    expect(await run('nbdcopy', ['--connections=3', before, uri])).toMatchObject({ status: 0 });
    expect(await run('nbdcopy', [uri, after])).toMatchObject({ status: 0 });
    expect(readFileSync(after).equals(readFileSync(before))).toBe(true);
  });
});

describe.skipIf(!haveTool('qemu-img', 'TLS with QEMU'))('with QEMU', () => {
  const convert = (port: number, credentials: string, target: string) =>
    run('qemu-img', [
      ...['convert', '--object', credentials, '--image-opts', '-O', 'raw'],
      `driver=nbd,host=localhost,port=${port},export=disk,tls-creds=tls`,
      join(directory, target),
    ]);

  it('certificates', async () => {
    const port = await serve(withCertificate(true));
    const credentials = (pki: string) => `tls-creds-x509,id=tls,endpoint=client,dir=${pki}`;
    expect(await convert(port, credentials(certificates.directory), 'x509')).toMatchObject({ status: 0 });
    expect((await convert(port, credentials(certificates.strangerDirectory), 'no')).status).not.toBe(0);
  });

  it('keys shared beforehand', async () => {
    const port = await serve({ kind: 'psk', path: join(directory, 'keys.psk') });
    const credentials = `tls-creds-psk,id=tls,endpoint=client,dir=${directory},username=alice`;
    const converted = await convert(port, credentials, 'psk');
    expect(converted, converted.stderr).toMatchObject({ status: 0 });
  });
});

describe('refused:', () => {
  it('an address that others reach, without TLS and unless forced', async () => {
    server = new NbdServer({ exports: [{ name: '', device: new MemoryDevice(MIB), readOnly: true }] });
    await expect(server.listenTcp('0.0.0.0', 0)).rejects.toMatchObject({ code: 'plain-refused', exitStatus: 2 });
    await expect(server.listenTcp('::', 0)).rejects.toMatchObject({ code: 'plain-refused' });
    await expect(server.listenTcp('', 0)).rejects.toMatchObject({ code: 'no-address' });
    await expect(server.listenTcp('localhost', 70_000)).rejects.toMatchObject({ code: 'bad-port' });
    await expect(server.listenTcp('no-such-host.invalid', 0)).rejects.toMatchObject({ code: 'cannot-listen' });
    const forced = await server.listenTcp('0.0.0.0', 0, undefined, { allowPlain: true });
    expect(await nbdinfo(`nbd://localhost:${forced.port}`)).toBe(String(MIB));
    const { port } = await server.listenTcp('0.0.0.0', 0, withCertificate(false));
    await expect(server.listenTcp('127.0.0.1', port)).rejects.toMatchObject({ code: 'cannot-listen' });
  });

  it('files that are no certificates or keys', async () => {
    server = new NbdServer({ exports: [] });
    const psk = (path: string) => server!.listenTcp('localhost', 0, { kind: 'psk', path });
    await expect(psk(join(directory, 'missing'))).rejects.toMatchObject({ code: 'tls-unusable' });
    await expect(psk(join(certificates.directory, 'ca-cert.pem'))).rejects.toMatchObject({ code: 'tls-unusable' });
    const swapped: TlsOptions = {
      kind: 'certificate',
      certificatePath: join(certificates.directory, 'server-cert.pem'),
      keyPath: join(certificates.directory, 'client-key.pem'),
    };
    await expect(server.listenTcp('localhost', 0, swapped)).rejects.toMatchObject({ code: 'tls-unusable' });
    expect(() => parsePsk('# nothing\n', 'x')).toThrow(/no key/);
    expect(() => parsePsk('alice:xyz\n', 'x')).toThrow(/line 1/);
    expect([...parsePsk('# two\nalice:00ff\n\nbob smith:01\n', 'x').keys()]).toEqual(['alice', 'bob smith']);
  });
});

it('what is sent before TLS begins counts for nothing, and TLS must begin', async () => {
  const port = await serve(withCertificate(false));
  const socket = connect({ port, host: '127.0.0.1' });
  const heard: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => heard.push(chunk));
  const closed = new Promise((resolve) => socket.once('close', resolve));
  const option = (number: number) =>
    Buffer.from(`49484156454f5054${number.toString(16).padStart(8, '0')}00000000`, 'hex');
  // LIST is refused with TLS_REQD; then STARTTLS with another LIST smuggled in behind it: the server hangs up.
  socket.write(Buffer.concat([Buffer.from('00000003', 'hex'), option(3)]));
  await expect.poll(() => Buffer.concat(heard).toString('hex')).toContain('0000000380000005');
  socket.write(Buffer.concat([option(5), option(3)]));
  await closed;
  expect(Buffer.concat(heard).toString('hex')).not.toContain('0000000500000001');
});
