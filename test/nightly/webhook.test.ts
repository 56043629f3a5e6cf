// SPDX-License-Identifier: MIT
// A document is posted to servers of every kind: those that answer, and those that make trouble.

import { createServer, type RequestListener } from 'node:http';
import { type AddressInfo, createServer as createPlainServer, type Server } from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import { postJson } from '#vmar/src/nightly/webhook.js';

const LONG_MILLIS = 60_000;
const SHORT_MILLIS = 200;

async function listening(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

const serving = (listener: RequestListener): Promise<string> => listening(createServer(listener));

function post(url: string, timeoutMillis = LONG_MILLIS, headers: readonly (readonly [string, string])[] = []) {
  return postJson({ url, headers: new Map(headers) }, { ok: true }, timeoutMillis);
}

it('is taken, with its headers and its true length', async () => {
  let seen: object = {};
  const url = await serving((request, response) => {
    seen = request.headers;
    request.resume().on('end', () => response.writeHead(204).end());
  });
  expect(await post(url, LONG_MILLIS, [['authorization', 'Bearer 1']])).toBeUndefined();
  expect(seen).toMatchObject({ authorization: 'Bearer 1', 'content-length': '11', 'content-type': 'application/json' });
});

it.each([302, 404, 500])('status %i is said, and no other place is gone to', async (status) => {
  let requests = 0;
  const url = await serving((_, response) => {
    requests++;
    response.writeHead(status, { location: '/elsewhere' }).end('why');
  });
  expect(await post(url)).toBe(`it answered with status ${status}`);
  expect(requests).toBe(1);
});

it('an answer without an end counts by its status, and is cut off', async () => {
  let onClosed = (): void => undefined;
  const closed = new Promise<void>((resolve) => {
    onClosed = resolve;
  });
  const url = await serving((_, response) => {
    response.writeHead(200);
    const timer = setInterval(() => response.write('x'.repeat(1000)), 5);
    response.on('close', () => {
      clearInterval(timer);
      onClosed();
    });
  });
  expect(await post(url, SHORT_MILLIS)).toBeUndefined();
  await closed;
});

it('no answer, half of one, one that is not HTTP, and nobody there are said', async () => {
  expect(await post(await serving(() => undefined), SHORT_MILLIS)).toBe('no answer within 0.2 s');
  const half = await listening(
    createPlainServer((socket) => void socket.on('error', () => {}).write('HTTP/1.1 200 O')),
  );
  expect(await post(half, SHORT_MILLIS)).toBe('no answer within 0.2 s');
  const odd = await listening(createPlainServer((socket) => void socket.on('error', () => {}).end('hello\r\n\r\n')));
  expect(await post(odd)).toContain('Parse Error');
  expect(await post('http://127.0.0.1:1/')).toContain('ECONNREFUSED');
});

it('a time-out of a month is not over at once', async () => {
  const url = await serving((_, response) => void setTimeout(() => response.writeHead(204).end(), 50));
  expect(await post(url, 31 * 86_400_000)).toBeUndefined();
});

it('what no request can be made of is said', async () => {
  expect(await post('http://127.0.0.1:1/', LONG_MILLIS, [['a b', 'c']])).toContain('a b');
});
