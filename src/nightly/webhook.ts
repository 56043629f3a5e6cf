// SPDX-License-Identifier: MIT
// A JSON document posted to a URL. No connection is kept, and none is waited for longer than told.

import { type ClientRequest, request as requestPlain } from 'node:http';
import { request as requestSecure } from 'node:https';
import { LONGEST_DELAY_MILLIS } from '../base/clock.js';
import type { WebhookConfig } from './config.js';

/**
 * Undefined once it was taken (a status of 2xx), else why not. Never rejects. What the answer says is not kept, and one that
 * has no end is cut off.
 */
export function postJson(
  { url, headers }: WebhookConfig,
  document: unknown,
  timeoutMillis: number,
): Promise<string | undefined> {
  return new Promise((resolve) => {
    let problem: string | undefined = `no answer within ${timeoutMillis / 1000} s`;
    const request = begin(url, headers, Buffer.from(JSON.stringify(document)));
    if (typeof request === 'string') {
      resolve(request);
      return;
    }
    const timer = setTimeout(() => finish(problem), Math.min(timeoutMillis, LONGEST_DELAY_MILLIS));
    const finish = (outcome: string | undefined): void => {
      clearTimeout(timer);
      resolve(outcome);
      request.destroy();
    };
    request.on('error', (error) => finish(error.message.trim() || String(error)));
    request.on('response', (response) => {
      const { statusCode = 0 } = response;
      problem = statusCode >= 200 && statusCode < 300 ? undefined : `it answered with status ${statusCode}`;
      response.on('error', () => undefined);
      response.on('close', () => finish(problem));
      response.resume();
    });
  });
}

/** The request, under way; or why there can be none. */
function begin(url: string, headers: WebhookConfig['headers'], body: Uint8Array): ClientRequest | string {
  const send = url.startsWith('https:') ? requestSecure : requestPlain;
  try {
    const request = send(url, {
      method: 'POST',
      agent: false,
      headers: {
        'content-type': 'application/json',
        'user-agent': 'vmar',
        ...Object.fromEntries(headers),
        'content-length': body.byteLength,
      },
    });
    return request.end(body);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
