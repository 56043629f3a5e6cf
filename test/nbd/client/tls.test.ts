// SPDX-License-Identifier: MIT
// TLS with certificates and with a pre-shared key, against nbdkit (GnuTLS).

import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openNbdDevice } from '#vmar/src/nbd/client/nbd-client.js';
import { haveTool, scratchDirectory } from '../../base/scratch.js';
import { readAll } from '../../block/device-contract.js';
import { nbdkit } from './servers.js';

const directory = scratchDirectory();
let count = 0;
const socketPath = () => join(directory, `s${count++}`);

function openssl(...words: string[]): void {
  const { status, stderr } = spawnSync('openssl', words, { encoding: 'utf8', cwd: directory });
  if (status !== 0) throw new Error(`openssl ${words.join(' ')}: ${stderr}`);
}

/** An authority, a server called localhost, a client. */
function makeCertificates(name: string): string {
  const pki = join(directory, name);
  mkdirSync(pki);
  const key = (file: string) => ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', file];
  openssl('req', '-x509', ...key(`${name}/ca-key.pem`), '-out', `${name}/ca-cert.pem`, '-subj', '/CN=ca', '-days', '2');
  for (const who of ['server', 'client']) {
    openssl('req', ...key(`${name}/${who}-key.pem`), '-out', `${name}/${who}.csr`, '-subj', `/CN=${who}`);
    writeFileSync(join(pki, 'ext'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
    openssl(
      ...['x509', '-req', '-in', `${name}/${who}.csr`, '-CA', `${name}/ca-cert.pem`, '-CAkey', `${name}/ca-key.pem`],
      ...['-CAcreateserial', '-days', '2', '-extfile', `${name}/ext`, '-out', `${name}/${who}-cert.pem`],
    );
  }
  return pki;
}

const haveAll = haveTool('nbdkit', 'TLS of the NBD client') && haveTool('openssl', 'TLS of the NBD client');
describe.skipIf(!haveAll)('TLS', () => {
  const pki = makeCertificates('pki');
  const others = makeCertificates('others');
  const open = (uri: string) => openNbdDevice(uri, { readOnly: true, reconnectMillis: 500 });
  const uriOf = (socket: string, parameters: string) => `nbds+unix:///?socket=${socket}&${parameters}`;

  it('with certificates: both show theirs, and the disk is the same', async () => {
    const words = ['--tls=require', `--tls-certificates=${pki}`, '--tls-verify-peer'];
    const { socket } = await nbdkit(socketPath(), ...words, 'pattern', '3M');
    const device = await open(uriOf(socket, `tls-certificates=${pki}&tls-hostname=localhost`));
    const bytes = await readAll(device);
    expect(bytes.readBigUInt64BE(3 * 2 ** 20 - 8)).toBe(BigInt(3 * 2 ** 20 - 8));
    await device.close();
    // A client that is not known does not get in; GnuTLS lets the handshake pass and then hangs up.
    await expect(open(uriOf(socket, `tls-certificates=${others}`)).then((late) => readAll(late))).rejects.toMatchObject(
      {
        exitStatus: 1,
      },
    );
    await expect(open(`nbd+unix:///?socket=${socket}`)).rejects.toMatchObject({ code: 'tls-required' });
  });

  it('a server of another authority, or of another name, is refused', async () => {
    const words = ['--tls=require', `--tls-certificates=${pki}`];
    const { socket } = await nbdkit(socketPath(), ...words, 'memory', '1M');
    await expect(open(uriOf(socket, `tls-certificates=${others}`))).rejects.toMatchObject({ exitStatus: 1 });
    const wrong = open(uriOf(socket, `tls-certificates=${pki}&tls-hostname=example.org`));
    await expect(wrong).rejects.toMatchObject({ exitStatus: 1 });
    await expect(open(uriOf(socket, 'tls-hostname=localhost'))).rejects.toMatchObject({ exitStatus: 1 });
    const nowhere = open(uriOf(socket, 'tls-certificates=/none'));
    await expect(nowhere).rejects.toMatchObject({ code: 'tls-unusable', object: '/none/ca-cert.pem' });
  });

  it('with a pre-shared key', async () => {
    writeFileSync(join(directory, 'keys'), `other:${'11'.repeat(32)}\nvmar:${'5a'.repeat(32)}\n`);
    writeFileSync(join(directory, 'wrong'), `vmar:${'66'.repeat(32)}\n`);
    const words = ['--tls=require', `--tls-psk=${join(directory, 'keys')}`];
    const { socket } = await nbdkit(socketPath(), ...words, 'pattern', '1M');
    const device = await open(uriOf(socket, `tls-psk-file=${join(directory, 'keys')}&tls-username=vmar`));
    expect((await readAll(device)).readBigUInt64BE(8)).toBe(8n);
    await device.close();
    const wrong = open(uriOf(socket, `tls-psk-file=${join(directory, 'wrong')}`));
    await expect(wrong).rejects.toMatchObject({ exitStatus: 1 });
    const nobody = open(uriOf(socket, `tls-psk-file=${join(directory, 'keys')}&tls-username=nobody`));
    await expect(nobody).rejects.toMatchObject({ code: 'tls-unusable' });
  });

  it('is never done without where it was asked for', async () => {
    const { socket } = await nbdkit(socketPath(), '--tls=off', 'memory', '1M');
    await expect(open(uriOf(socket, `tls-certificates=${pki}`))).rejects.toMatchObject({ code: 'no-tls' });
  });
});
