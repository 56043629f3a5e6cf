// SPDX-License-Identifier: MIT
// Notes of backups, configuration files out of them, and a server that ends with the program that started it.

import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { Bench } from './bench.js';
import { mixedImage } from './images.js';
import { serve } from './serving.js';

describe('a backup', () => {
  const bench = new Bench();
  const config = Buffer.from([0, 255, 10, 13, 65, 128]);
  beforeAll(async () => {
    mixedImage(bench.path('a.raw'));
    writeFileSync(bench.path('guest.conf'), config);
    await bench.json(['init', 'store']);
    await bench.json(['backup', '100', '--disk', 'd=a.raw', '--config', 'guest.conf', '--label', 'k=v']);
  });

  it('has notes, which list and show tell, and which leave its labels alone', async () => {
    const { backup } = await bench.json(['show', '100']);
    expect(await bench.json(['notes', '100'])).toEqual({ backup, notes: '' });
    expect((await bench.json(['list'])).backups[0]).not.toHaveProperty('notes');
    const notes = 'before the update\nto 12.3 – “good”';
    expect(await bench.json(['notes', '100', '--set', notes])).toEqual({ backup, notes });
    expect(await bench.json(['notes', '100'])).toEqual({ backup, notes });
    expect((await bench.run(['notes', '100'])).text).toBe(`${notes}\n`);
    expect(await bench.json(['show', '100'])).toMatchObject({ notes, labels: { k: 'v' }, protected: false });
    expect((await bench.json(['list'])).backups[0]).toMatchObject({ notes });
    expect(await bench.json(['notes', '100', '--set', ''])).toEqual({ backup, notes: '' });
    expect(await bench.error(['notes', '7', '--set', 'x'])).toMatchObject({ exit: 4 });
    expect(await bench.error(['notes', './a.vmar', '--set', 'x'])).toMatchObject({ exit: 2, code: 'not-in-datastore' });
    expect(await bench.json(['verify'])).toMatchObject({ ok: true });
  });

  it('gives its configuration files as they were', async () => {
    expect((await bench.run(['show', '100', '--config', 'guest.conf'])).stdout.equals(config)).toBe(true);
    const { status, stderr } = await bench.run(['show', '100', '--config', 'other']);
    expect(status).toBe(4);
    expect(stderr).toContain('guest.conf');
    expect(await bench.error(['show', '100', '--config', 'guest.conf'])).toMatchObject({ exit: 2, code: 'json-here' });
  });

  it('is served until the program that asked for it is killed', async () => {
    const words = ['serve', '100', '--socket', bench.path('s.sock'), '--exit-with-parent'];
    // Its standard input is /dev/null: closed from the start.
    expect((await bench.run(words)).status).toBe(0);
    const serving = await serve(bench, ['100', '--socket', bench.path('t.sock')]);
    expect((await serving.stop()).status).toBe(130);
    const holder = spawn('sleep', ['60'], { stdio: ['ignore', 'pipe', 'ignore'] });
    const program = spawn(
      process.execPath,
      [new URL('../../dist/bundle/cli/vmar.js', import.meta.url).pathname, ...words],
      {
        env: { ...process.env, VMAR_DATASTORE: bench.store, VMAR_CACHE_DIR: bench.path('cache') },
        stdio: [holder.stdout, 'pipe', 'inherit'],
      },
    );
    const ended = new Promise((resolve) => program.once('exit', resolve));
    await new Promise((resolve) => program.stdout!.once('data', resolve));
    expect(program.exitCode).toBeNull();
    holder.kill('SIGKILL');
    expect(await ended).toBe(0);
  });
});
