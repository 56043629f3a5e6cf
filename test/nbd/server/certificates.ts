// SPDX-License-Identifier: MIT
// Throw-away certificates and keys, in the files that QEMU and libnbd look for.

import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Certificates {
  /** ca-cert.pem, server-cert.pem, server-key.pem, and client-cert.pem, client-key.pem. */
  readonly directory: string;
  /** The same authority, but no certificate for a client. */
  readonly anonymousDirectory: string;
  /** A client whose certificate another authority gave. */
  readonly strangerDirectory: string;
}

export function makeCertificates(parent: string): Certificates {
  const directory = join(parent, 'pki');
  makeAuthority(directory);
  makeCertificate(directory, 'server', 'localhost');
  makeCertificate(directory, 'client', 'guest');
  const anonymousDirectory = join(parent, 'anonymous');
  mkdirSync(anonymousDirectory);
  copyFileSync(join(directory, 'ca-cert.pem'), join(anonymousDirectory, 'ca-cert.pem'));
  const strangerDirectory = join(parent, 'stranger');
  makeAuthority(strangerDirectory);
  makeCertificate(strangerDirectory, 'client', 'stranger');
  copyFileSync(join(directory, 'ca-cert.pem'), join(strangerDirectory, 'ca-cert.pem'));
  return { directory, anonymousDirectory, strangerDirectory };
}

/** A file of one shared key, as psktool would write it. */
export function makePskFile(path: string, name: string, hexKey: string): void {
  writeFileSync(path, `${name}:${hexKey}\n`);
  chmodSync(path, 0o600);
}

function openssl(directory: string, ...args: string[]): void {
  execFileSync('openssl', args, { cwd: directory, stdio: 'pipe' });
}

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

function makeAuthority(directory: string): void {
  mkdirSync(directory);
  const files = ['-keyout', 'ca-key.pem', '-out', 'ca-cert.pem'];
  openssl(directory, 'req', '-x509', ...NEW_KEY, ...files, '-subj', '/CN=test authority', '-days', '2');
}

function makeCertificate(directory: string, who: 'server' | 'client', name: string): void {
  const request = ['-keyout', `${who}-key.pem`, '-out', `${who}.csr`, '-subj', `/CN=${name}`];
  openssl(directory, 'req', ...NEW_KEY, ...request);
  const extensions = [
    'basicConstraints=CA:FALSE',
    'keyUsage=digitalSignature',
    `extendedKeyUsage=${who}Auth`,
    `subjectAltName=DNS:${name},IP:127.0.0.1`,
  ];
  writeFileSync(join(directory, `${who}.ext`), extensions.join('\n'));
  const authority = ['-CA', 'ca-cert.pem', '-CAkey', 'ca-key.pem', '-CAcreateserial', '-days', '2'];
  const files = ['-in', `${who}.csr`, '-out', `${who}-cert.pem`, '-extfile', `${who}.ext`];
  openssl(directory, 'x509', '-req', ...files, ...authority);
}
