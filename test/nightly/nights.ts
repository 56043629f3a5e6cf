// SPDX-License-Identifier: MIT
// A host with a datastore, guests that are image files, and a configuration; jobs are run by the built program.

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll } from 'vitest';
import { Bench, type Json } from '../cli/bench.js';
import { makeImage, noise } from '../cli/images.js';

export class Nights {
  readonly bench = new Bench();
  readonly config = this.bench.path('vmar.yaml');

  async init(): Promise<void> {
    await this.bench.json(['init', this.bench.store]);
  }

  image(name: string, clusters = 4): string {
    return makeImage(this.bench.path(`${name}.raw`), clusters * 65536, [{ at: 0, bytes: noise(clusters) }]);
  }

  /** Lines of the guests and jobs, and of datastores besides `main`. */
  configure(guests: string, jobs: string, more = '', datastores = ''): void {
    const head = `datastores:\n  main: ${this.bench.store}\n${indented(datastores)}`;
    writeFileSync(this.config, `${head}guests:\n${indented(guests)}jobs:\n${indented(jobs)}${more}`, { mode: 0o600 });
  }

  words(...words: string[]): string[] {
    return ['job', ...words, '--config-file', this.config];
  }

  /** Runs a job that may fail: status, its one report, what was said. */
  async run(job = 'nightly', env: Readonly<Record<string, string>> = {}) {
    const finished = await this.bench.run(['--json', ...this.words('run', job)], this.#options(env));
    const document = finished.json();
    return { status: finished.status, document, report: document.jobs?.[0] as Json, stderr: finished.stderr };
  }

  start(job = 'nightly') {
    return this.bench.start(['--json', ...this.words('run', job)], this.#options());
  }

  /** The jobs' datastore is the configuration's, whatever the environment says. */
  #options(env: Readonly<Record<string, string>> = {}) {
    return { env: { VMAR_DATASTORE: undefined, ...env } };
  }

  async history(): Promise<Json[]> {
    return (await this.bench.json(this.words('history'), this.#options())).runs;
  }

  async backups(): Promise<string[]> {
    return (await this.bench.json(['list'])).backups.map(({ backup }: Json) => backup);
  }

  /** What hooks wrote into a file, line by line. */
  lines(name: string): string[] {
    const path = this.bench.path(name);
    return existsSync(path) ? readFileSync(path, 'utf8').trimEnd().split('\n') : [];
  }

  directory(name: string): string {
    const path = this.bench.path(name);
    mkdirSync(path, { recursive: true });
    return path;
  }

  /** Nothing that a session had is left. */
  leftovers(): string[] {
    return ['tmp', 'locks'].flatMap((name) =>
      readdirSync(this.bench.path('store', name)).filter((file) => name === 'tmp' || file.startsWith('session-')),
    );
  }
}

function indented(text: string): string {
  return text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => `  ${line}\n`)
    .join('');
}

export interface Posted {
  readonly headers: IncomingHttpHeaders;
  readonly document: Json;
}

/** A web server that keeps what is posted to it. With status 0 it never answers. */
export async function webServer(status = 204): Promise<{ readonly url: string; readonly posted: Posted[] }> {
  const posted: Posted[] = [];
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      posted.push({ headers: request.headers, document: JSON.parse(Buffer.concat(parts).toString()) });
      if (status !== 0) response.writeHead(status).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`, posted };
}
