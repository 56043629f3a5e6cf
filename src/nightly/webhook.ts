// SPDX-License-Identifier: MIT
// A JSON document posted to a URL. No connection is kept, and none is waited for longer than told.

import { request as requestPlain } from 'node:http';
import { request as requestSecure } from 'node:https';
import type { WebhookConfig } from './config.js';

/** Undefined once it was taken (a status of 2xx), else why not. Never rejects. */
export function postJson(
  { url, headers }: WebhookConfig,
  document: unknown,
  timeoutMillis: number,
): Promise<string | undefined> {
  return new Promise((resolve) => {
    const body = Buffer.from(JSON.stringify(document));
    const timer = setTimeout(() => {
      resolve(`no answer within ${timeoutMillis / 1000} s`);
      request.destroy();
    }, timeoutMillis);
    const finish = (problem: string | undefined): void => {
      clearTimeout(timer);
      resolve(problem);
    };
    const send = url.startsWith('https:') ? requestSecure : requestPlain;
    const request = send(url, {
      method: 'POST',
      agent: false,
      headers: {
        'content-type': 'application/json',
        'content-length': body.byteLength,
        'user-agent': 'vmar',
        ...Object.fromEntries(headers),
      },
    });
    request.on('error', (error) => finish(error.message || String(error)));
    request.on('response', (response) => {
      const { statusCode = 0 } = response;
      response.resume();
      response.on('error', () => undefined);
      finish(statusCode >= 200 && statusCode < 300 ? undefined : `it answered with status ${statusCode}`);
    });
    request.end(body);
  });
}
