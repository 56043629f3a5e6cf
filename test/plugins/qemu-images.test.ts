// SPDX-License-Identifier: MIT
// Images that QEMU reads for us: backed up and restored bit for bit, and nothing left behind however it ends.

import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { seededRandom } from '../base/random.js';
import { haveTool } from '../base/scratch.js';
import { Bench, type Running } from '../cli/bench.js';

const haveAll =
  haveTool('qemu-img', 'images that are not raw') &&
  haveTool('qemu-io', 'images that are not raw') &&
  haveTool('qemu-nbd', 'images that are not raw');

function run(command: string, ...words: string[]): string {
  const { status, stdout, stderr } = spawnSync(command, words, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${words.join(' ')}: ${stdout}${stderr}`);
  return stdout;
}

describe.skipIf(!haveAll)('images that are not raw', () => {
  const bench = new Bench();
  const temporary = bench.path('tmp');
  const env = { TMPDIR: temporary };
  const leftovers = (): string[] => readdirSync(temporary).filter((name) => name.startsWith('vmar-qemu-'));
  const servers = (): string => spawnSync('pgrep', ['-f', `qemu-.*${temporary}`], { encoding: 'utf8' }).stdout;

  /** Resolves when QEMU serves an image for it. */
  async function untilServed({ finished }: Running): Promise<void> {
    let ended: string | undefined;
    void finished.then(({ text, stderr }) => {
      ended = text + stderr;
    });
    while (servers() === '') {
      if (ended !== undefined) throw new Error(`it ended too soon: ${ended}`);
      await delay(10);
    }
  }

  async function untilClean(): Promise<void> {
    for (let tries = 0; servers() !== '' || leftovers().length > 0; tries++) {
      if (tries > 500) throw new Error(`left behind: ${leftovers()} ${servers()}`);
      await delay(10);
    }
  }

  beforeAll(async () => {
    mkdirSync(temporary);
    await bench.json(['init', 'store']);
    const random = seededRandom(7);
    const raw = Buffer.alloc(24 << 20);
    for (let count = 0; count < 40; count++)
      raw.set(random.bytes(random.integer(1, 100_000)), random.integer(0, 23 << 20));
    writeFileSync(bench.path('disk.img'), raw);
  });

  async function sameAfterRestore(guest: string, image: string, format: string): Promise<void> {
    const { disks } = await bench.json(['backup', guest, '--disk', `d=${image}`], { env });
    const target = bench.path(`${guest}.out`);
    await bench.json(['restore', guest, '--disk', `d=${target}`]);
    run('qemu-img', 'compare', '-f', format, '-F', 'raw', bench.path(image), target);
    expect(disks[0].size).toBe(readFileSync(target).length);
    expect(disks[0].zero).toBeGreaterThan(0);
    expect(leftovers()).toEqual([]);
    expect(servers()).toBe('');
  }

  it.each([
    ['qcow2', ''],
    ['qcow2', 'compat=0.10'],
    ['qcow2', 'extended_l2=on'],
    ['qed', ''],
    ['vmdk', ''],
    ['vmdk', 'subformat=streamOptimized'],
    ['vmdk', 'subformat=twoGbMaxExtentSparse'],
    ['vdi', ''],
    ['vhdx', ''],
    ['vpc', ''],
  ])('%s %s', async (format, options) => {
    const name = `${format}-${options.replace(/\W/g, '-')}.${format}`;
    const words = options === '' ? [] : ['-o', options];
    run('qemu-img', 'convert', '-f', 'raw', '-O', format, ...words, bench.path('disk.img'), bench.path(name));
    await sameAfterRestore(name.replace(/\W/g, '-'), name, format);
  });

  it('a compressed one, and one with a comma and a colon in its name', async () => {
    run('qemu-img', 'convert', '-c', '-f', 'raw', '-O', 'qcow2', bench.path('disk.img'), bench.path('c.qcow2'));
    renameSync(bench.path('c.qcow2'), bench.path('a,b:{"c"}.qcow2'));
    const { disks } = await bench.json(['backup', 'odd', '--disk', 'd=./a,b:{"c"}.qcow2'], { env });
    expect(disks[0].size).toBe(24 << 20);
  });

  it('a chain of three in different directories, by relative names and through a link', async () => {
    mkdirSync(bench.path('base'));
    run('qemu-img', 'convert', '-f', 'raw', '-O', 'vmdk', bench.path('disk.img'), bench.path('base', 'a.vmdk'));
    const create = (name: string, backing: string, format: string) =>
      run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', backing, '-F', format, bench.path(name), '32M');
    create('base/b.qcow2', 'a.vmdk', 'vmdk');
    create('c.qcow2', 'base/b.qcow2', 'qcow2');
    run('qemu-io', '-f', 'qcow2', '-c', 'write -P 1 1M 3M', bench.path('base', 'b.qcow2'));
    run('qemu-io', '-f', 'qcow2', '-c', 'write -P 2 2M 1M', '-c', 'write -z 5M 1M', bench.path('c.qcow2'));
    symlinkSync('c.qcow2', bench.path('link.qcow2'));
    await sameAfterRestore('chain', 'c.qcow2', 'qcow2');
    await sameAfterRestore('link', 'link.qcow2', 'qcow2');
  });

  it('a chain that leaves QEMU to guess is refused', async () => {
    const base = bench.path('guess.img');
    run('qemu-img', 'create', '-q', '-f', 'raw', base, '1M');
    run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', base, '-F', 'raw', bench.path('guess.qcow2'));
    run('qemu-img', 'rebase', '-u', '-f', 'qcow2', '-b', base, '-F', 'raw', bench.path('guess.qcow2'));
    expect((await bench.json(['backup', 'guess', '--disk', 'd=guess.qcow2'], { env })).disks[0].size).toBe(1 << 20);
    // What QEMU wrote before it asked for formats: no such extension.
    const bytes = readFileSync(bench.path('guess.qcow2'));
    bytes.writeUInt32BE(0x12345678, bytes.indexOf(Buffer.from([0xe2, 0x79, 0x2a, 0xca])));
    writeFileSync(bench.path('guess.qcow2'), bytes);
    const error = await bench.error(['backup', 'guess', '--disk', 'd=guess.qcow2'], { env });
    expect(error).toMatchObject({ exit: 1, code: 'backing-format-missing', object: 'guess.qcow2' });
  });

  it('a format that is named', async () => {
    run('qemu-img', 'create', '-q', '-f', 'qcow2', bench.path('named.raw'), '1M');
    const error = await bench.error(['backup', 'named', '--disk', 'd=named.raw'], { env });
    expect(error).toMatchObject({ exit: 1, code: 'format-unclear' });
    const { disks } = await bench.json(['backup', 'named', '--disk', 'd=qcow2:named.raw'], { env });
    expect(disks[0].size).toBe(1 << 20);
  });

  it('a broken one, and a backing file that is missing: 1, and nothing left', async () => {
    writeFileSync(bench.path('broken.qcow2'), Buffer.concat([Buffer.from('QFI\xfb', 'latin1'), Buffer.alloc(70_000)]));
    const error = await bench.error(['backup', 'broken', '--disk', 'd=broken.qcow2'], { env });
    expect(error).toMatchObject({ exit: 1, code: 'image-unreadable', object: 'broken.qcow2' });
    run('qemu-img', 'create', '-q', '-u', '-f', 'qcow2', '-b', 'gone', '-F', 'raw', bench.path('o.qcow2'), '1M');
    expect(await bench.error(['backup', 'o', '--disk', 'd=o.qcow2'], { env })).toMatchObject({
      exit: 1,
      message: expect.stringContaining('gone'),
    });
    await untilClean();
  });

  it('one that is written to, or whose backing file is: 5, unless the lock is passed over', async () => {
    run('qemu-img', 'create', '-q', '-f', 'qcow2', bench.path('l.qcow2'), '1M');
    run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'l.qcow2', '-F', 'qcow2', bench.path('m.qcow2'));
    const writer = spawn('qemu-io', ['-f', 'qcow2', bench.path('l.qcow2')], { stdio: ['pipe', 'pipe', 'ignore'] });
    writer.stdin.write('write 0 64k\n');
    await new Promise((resolve) => writer.stdout.once('data', resolve));
    for (const image of ['l.qcow2', 'm.qcow2']) {
      const error = await bench.error(['backup', 'busy', '--disk', `d=${image}`], { env });
      expect(error).toMatchObject({ exit: 5, code: 'image-locked', object: image });
      await bench.json(['backup', 'busy', '--disk', `d=${image}`, '--force-share'], { env });
    }
    writer.stdin.end();
    await new Promise((resolve) => writer.once('close', resolve));
    const { backups } = await bench.json(['list', 'busy']);
    expect(backups).toHaveLength(2);
    await untilClean();
  });

  it.each(['SIGKILL', 'SIGINT', 'SIGTERM'] as const)('ends with us: %s', async (signal) => {
    run('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', bench.path('disk.img'), bench.path('slow.qcow2'));
    const running = bench.start(['backup', 'slow', '--disk', 'd=slow.qcow2', '--speed', '100KiB'], { env });
    await untilServed(running);
    running.child.kill(signal);
    const { status } = await running.finished;
    expect(status).toBe(signal === 'SIGKILL' ? null : 130);
    await untilClean();
  });

  it('ends with us, though it forgets to end when it is told to', async () => {
    const bin = bench.path('forgetful');
    mkdirSync(bin);
    spawnSync('mkfifo', [join(bin, 'nobody')]);
    writeFileSync(join(bin, 'qemu-nbd'), `#!/bin/sh\ntrap '' TERM\nread -r _ <${join(bin, 'nobody')}\n`, {
      mode: 0o755,
    });
    const words = ['backup', 'slow', '--disk', 'd=slow.qcow2'];
    const running = bench.start(words, { env: { ...env, PATH: `${bin}:${process.env.PATH}` } });
    await untilServed(running);
    running.child.kill('SIGKILL');
    await running.finished;
    await untilClean();
  });

  it('what a run that was killed together with its guardian left behind is swept by the next', async () => {
    const dead = join(temporary, 'vmar-qemu-Dead00');
    mkdirSync(dead, { mode: 0o700 });
    writeFileSync(join(dead, 'socket'), '');
    await bench.json(['backup', 'sweep', '--disk', 'd=slow.qcow2'], { env });
    expect(leftovers()).toEqual([]);
  });

  it('without qemu-nbd the storage daemon does it; without both it is said what is missing', async () => {
    const bin = bench.path('bin');
    mkdirSync(bin);
    for (const tool of ['rm', 'rmdir']) symlinkSync(run('which', tool).trim(), join(bin, tool));
    const error = await bench.error(['backup', 'no', '--disk', 'd=slow.qcow2'], { env: { ...env, PATH: bin } });
    expect(error).toMatchObject({ exit: 1, code: 'qemu-missing', advice: expect.stringContaining('qemu-utils') });
    if (!haveTool('qemu-storage-daemon', 'reading images through it')) return;
    symlinkSync(run('which', 'qemu-storage-daemon').trim(), join(bin, 'qemu-storage-daemon'));
    await bench.json(['backup', 'qsd', '--disk', 'd=slow.qcow2'], { env: { ...env, PATH: bin } });
    await bench.json(['restore', 'qsd', '--disk', `d=${bench.path('qsd.out')}`]);
    run('qemu-img', 'compare', '-f', 'qcow2', '-F', 'raw', bench.path('slow.qcow2'), bench.path('qsd.out'));
    await untilClean();
    rmSync(bin, { recursive: true });
  });
});
