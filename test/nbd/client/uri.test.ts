// SPDX-License-Identifier: MIT

import { describe, expect, it } from 'vitest';
import { parseNbdUri } from '#vmar/src/nbd/client/nbd-uri.js';

const tcp = (host: string, port = 10809) => ({ kind: 'tcp', host, port });
const unix = (path: string) => ({ kind: 'unix', path });

describe('NBD URIs', () => {
  it.each([
    ['nbd://host', tcp('host'), ''],
    ['nbd://host/', tcp('host'), ''],
    ['nbd://host:1/a/b', tcp('host', 1), 'a/b'],
    ['nbd:///x', tcp('localhost'), 'x'],
    ['nbd://[::1]:2/x', tcp('::1', 2), 'x'],
    ['nbd://host//x', tcp('host'), '/x'],
    ['nbd://host/../a%20b%3F', tcp('host'), '../a b?'],
    ['nbd+unix:///?socket=/run/s', unix('/run/s'), ''],
    ['nbd+unix:///x?socket=rel%26ative', unix('rel&ative'), 'x'],
    ['nbd+unix:///%C3%BC?socket=s', unix('s'), 'ü'],
  ])('%s', (uri, transport, exportName) => {
    expect(parseNbdUri(uri)).toEqual({ uri, transport, exportName, tls: undefined });
  });

  it('with TLS', () => {
    const tls = { certificateDirectory: '/pki', pskFile: undefined, userName: 'me', hostName: 'host' };
    expect(parseNbdUri('nbds://me@host/x?tls-certificates=/pki')).toMatchObject({ tls });
    expect(parseNbdUri('nbds+unix:///?socket=s&tls-psk-file=f&tls-username=u')).toMatchObject({
      tls: { pskFile: 'f', userName: 'u', hostName: undefined },
    });
    expect(parseNbdUri('nbds://1.2.3.4/?tls-hostname=h')).toMatchObject({ tls: { hostName: 'h' } });
  });

  it.each([
    'http://host/x',
    'nbd:/x',
    'nbd://host:0/x',
    'nbd://host:65536/x',
    'nbd://host:a/x',
    'nbd://a b:1:2/x',
    'nbd://host/%',
    'nbd://host/%ff',
    'nbd://host/%00',
    'nbd://host/x#y',
    'nbd://host/x?socket=/s',
    'nbd://host/x?unknown=1',
    'nbd://host/x?tls-psk-file=f',
    'nbd+unix:///x',
    'nbd+unix:///x?socket=',
    'nbd+unix:///x?socket=a&socket=b',
    'nbd+unix://host/x?socket=/s',
    `nbd+unix:///x?socket=${'s'.repeat(108)}`,
    `nbd://host/${'x'.repeat(4097)}`,
  ])('%s is none', (uri) => {
    expect(() => parseNbdUri(uri)).toThrow(expect.objectContaining({ code: 'bad-uri', exitStatus: 2, object: uri }));
  });
});
