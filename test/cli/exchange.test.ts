// SPDX-License-Identifier: MIT
// Archives in and out as people hand them on: what lies beside files of vzdump, other names and compressions of one file,
// every format through standard input, folders of nights on a terminal, disks of any length.

import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { basename } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { beforeAll, describe, expect, it } from 'vitest';
import { compress } from 'zstd-napi';
import { vmaFile } from '../archive/vma-file.js';
import { seededRandom } from '../base/random.js';
import { haveTool } from '../base/scratch.js';
import { extract } from '../formats/vma/extracted.js';
import { Bench, type Json } from './bench.js';

const VMAR = fileURLToPath(new URL('../../dist/bundle/cli/vmar.js', import.meta.url));
const bench = new Bench();
const random = seededRandom(17);
const NAME = 'vzdump-qemu-107-2026_11_21-02_00_00';
const CONFIG = { name: 'qemu-server.conf', content: Buffer.from('name: web\n') };

function oneDisk(content: Uint8Array, uuid = random.bytes(16)): Buffer {
  return vmaFile([{ name: 'drive-scsi0', content }], { uuid, configs: [CONFIG] });
}

/** It is written once its holder has it. */
async function lockIsHeld(path: string): Promise<void> {
  for (let tries = 0; !existsSync(path) || readFileSync(path).byteLength === 0; tries++) {
    if (tries > 600) throw new Error(`nobody took ${path}`);
    await delay(50);
  }
}

beforeAll(async () => {
  await bench.json(['init', bench.store]);
});

describe('what lies beside a file of vzdump', () => {
  const beside: Record<string, Buffer> = {
    [`${NAME}.vma.notes`]: Buffer.from('\ufeffbefore the update\r\nsecond line, ü, no end'),
    [`${NAME}.log`]: Buffer.from([...Buffer.from('INFO: starting\n'), 0xff, 0xfe, 0, 10]),
    [`${NAME}.vma.protected`]: Buffer.alloc(0),
  };

  it('comes back byte for byte beside an export into a directory', async () => {
    mkdirSync(bench.path('in'));
    writeFileSync(bench.path('in', `${NAME}.vma`), oneDisk(random.bytes(300_000)));
    for (const [name, content] of Object.entries(beside)) writeFileSync(bench.path('in', name), content);
    await bench.json(['import', `in/${NAME}.vma`]);
    mkdirSync(bench.path('out'));
    const exported = await bench.json(['export', '107', '--format', 'vma', '--output', 'out/']);
    expect(exported.beside.map((path: string) => basename(path)).sort()).toEqual(Object.keys(beside).sort());
    expect(readdirSync(bench.path('out')).sort()).toEqual([`${NAME}.vma`, ...Object.keys(beside)].sort());
    for (const [name, content] of Object.entries(beside)) {
      expect(readFileSync(bench.path('out', name)).equals(content), name).toBe(true);
    }
    const { header } = extract(readFileSync(bench.path('out', `${NAME}.vma`)));
    expect(header.configs.map(({ name }) => name)).toEqual(['qemu-server.conf']);
    // Nothing is written over, and nothing is left of what was begun.
    rmSync(bench.path('out', `${NAME}.vma`));
    expect(await bench.error(['export', '107', '--format', 'vma', '--output', 'out/'])).toMatchObject({
      code: 'exists',
    });
    expect(readdirSync(bench.path('out')).sort()).toEqual(Object.keys(beside).sort());
  });

  it('is said to be left out of a single file', async () => {
    const { status, stderr } = await bench.run(['export', '107', '--output', 'single.vma']);
    expect(status).toBe(0);
    expect(stderr).toContain('no room for the notes and log and mark of protection');
    expect(existsSync(bench.path('single.vma.notes'))).toBe(false);
    const vmar = await bench.run(['export', '107', '--output', 'told.vmar']);
    expect(vmar.stderr).toContain(
      'no room for the notes and mark of protection of the backup; --format tar keeps them',
    );
    const tar = await bench.run(['export', '107', '--output', 'told.tar']);
    expect(tar.stderr).not.toContain('no room');
  });

  it('may be notes that are no UTF-8, as long as nobody changes them', async () => {
    const name = 'vzdump-qemu-108-2026_11_21-02_00_00';
    const notes = Buffer.from([0x4d, 0xfc, 0x6c, 0x6c, 0xff, 10]);
    writeFileSync(bench.path('in', `${name}.vma.zst`), compress(oneDisk(random.bytes(5000))));
    writeFileSync(bench.path('in', `${name}.vma.zst.notes`), notes);
    await bench.json(['import', `in/${name}.vma.zst`]);
    const to = async (directory: string) => {
      mkdirSync(bench.path(directory));
      await bench.json(['export', '108', '--format', 'vma', '--output', directory]);
      return readFileSync(bench.path(directory, `${name}.vma.notes`));
    };
    expect((await to('raw')).equals(notes)).toBe(true);
    await bench.json(['notes', '108', '--set', 'new']);
    expect((await to('new')).toString()).toBe('new');
  });
});

describe('one file', () => {
  it('is one backup, whatever it is called and however it is compressed', async () => {
    const whole = oneDisk(random.bytes(200_000));
    const forms: Record<string, Buffer> = {
      'vzdump-qemu-120-2026_11_20-02_00_00.vma': whole,
      'vzdump-qemu-120-2026_11_20-03_00_00.vma.zst': Buffer.from(compress(whole)),
      'renamed.vma.gz': gzipSync(whole),
      'no-extension': Buffer.from(compress(whole)),
    };
    mkdirSync(bench.path('forms'));
    for (const [name, content] of Object.entries(forms)) writeFileSync(bench.path('forms', name), content);
    const files = Object.keys(forms).map((name) => `forms/${name}`);
    const { imported } = await bench.json(['import', ...files, '--guest', '120']);
    expect(imported.map(({ known }: Json) => known)).toEqual([false, true, true, true]);
    expect(new Set(imported.map(({ backup }: Json) => backup)).size).toBe(1);
    expect((await bench.json(['list', '120'])).backups).toHaveLength(1);
  });
});

describe('two files of one UUID', () => {
  it('that hold other disks or are of another time are two backups, each imported once', async () => {
    const uuid = Buffer.alloc(16);
    mkdirSync(bench.path('nil'));
    const name = (day: number) => `vzdump-qemu-125-2026_10_0${day}-02_00_00.vma`;
    const contents = [random.bytes(200_000), random.bytes(200_000), random.bytes(300_000)];
    for (const [at, content] of contents.entries())
      writeFileSync(bench.path('nil', name(at + 1)), oneDisk(content, uuid));
    for (const isKnown of [false, true]) {
      const { imported } = await bench.json(['import', 'nil']);
      expect(imported.map(({ known, backup }: Json) => [known, backup])).toEqual(
        [1, 2, 3].map((day) => [isKnown, `vm/125/2026-10-0${day}T02:00:00Z`]),
      );
    }
    for (const [at, content] of contents.entries()) {
      await bench.json(['restore', `vm/125/2026-10-0${at + 1}T02:00:00Z`, '--disk', `scsi0=nil-${at}.raw`]);
      expect(readFileSync(bench.path(`nil-${at}.raw`)).equals(content), `${at}`).toBe(true);
    }
    writeFileSync(bench.path('again.vma'), oneDisk(contents[1]!, uuid));
    const { imported } = await bench.json(['import', 'again.vma', '--guest', '125']);
    expect(imported).toMatchObject([{ known: true, backup: 'vm/125/2026-10-02T02:00:00Z' }]);
  });
});

describe('standard input', () => {
  it('takes every format, compressed or not', async () => {
    const content = random.bytes(700_000).fill(0, 100_000, 400_000);
    writeFileSync(bench.path('disk.raw'), content);
    await bench.json(['backup', '130', '--disk', 'scsi0=disk.raw', '--time', '1700000000']);
    for (const format of ['vma', 'tar', 'vmar']) {
      await bench.json(['export', '130', '--output', `whole.${format}`]);
      const whole = readFileSync(bench.path(`whole.${format}`));
      const packed = format === 'vma' ? gzipSync(whole, { level: 1 }) : Buffer.from(compress(whole));
      const forms = { plain: whole, packed };
      const env = { VMAR_DATASTORE: bench.path(`${format}-store`) };
      await bench.json(['init', env.VMAR_DATASTORE], { env });
      for (const [kind, bytes] of Object.entries(forms)) {
        writeFileSync(bench.path('piped'), bytes);
        const words = `cat piped | '${process.execPath}' '${VMAR}' --json import - --guest 130 --time 1700000000`;
        const { stdout, stderr } = spawnSync('sh', ['-c', words], {
          cwd: bench.directory,
          env: { ...process.env, ...env, VMAR_CACHE_DIR: bench.path('cache') },
          encoding: 'utf8',
        });
        expect(stderr, `${format} ${kind}`).toBe('');
        const expected = { file: '-', known: kind !== 'plain', backup: 'vm/130/2023-11-14T22:13:20Z' };
        expect(JSON.parse(stdout).imported, `${format} ${kind}`).toMatchObject([expected]);
      }
      await bench.json(['restore', '130', '--to', `${format}-out`], { env });
      expect(readFileSync(bench.path(`${format}-out`, 'scsi0.raw')).equals(content), format).toBe(true);
    }
  });

  it('is taken by its name as well, without closing what is none of its own', async () => {
    writeFileSync(bench.path('named.vma'), oneDisk(random.bytes(300_000)));
    const env = { ...process.env, VMAR_DATASTORE: bench.store, VMAR_CACHE_DIR: bench.path('cache') };
    const known: boolean[] = [];
    for (let round = 0; round < 3; round++) {
      const command = `cat named.vma | '${process.execPath}' '${VMAR}' --json import /dev/stdin --guest 131`;
      const done = spawnSync('sh', ['-c', command], { cwd: bench.directory, env, encoding: 'utf8' });
      expect(`${done.status} ${done.stderr}`).toBe('0 ');
      known.push(JSON.parse(done.stdout).imported[0].known);
    }
    expect(known).toEqual([false, true, true]);
  });

  it('that is silent does not keep the program from being interrupted', async () => {
    expect(spawnSync('mkfifo', [bench.path('fifo')]).status).toBe(0);
    const holder = openSync(bench.path('fifo'), 'r+');
    const { child, finished } = bench.start(['import', '-', '--guest', '1'], { stdin: holder });
    await delay(1500);
    child.kill('SIGINT');
    const { status, stderr } = await finished;
    closeSync(holder);
    expect(status).toBe(130);
    expect(stderr).toContain('interrupted');
    expect(readdirSync(bench.path('store', 'tmp'))).toEqual([]);
  });
});

describe('a folder of thirty nights', () => {
  it('is one command with one bar, and a table of what it came down to', async () => {
    mkdirSync(bench.path('nights'));
    const content = random.bytes(1_500_000);
    for (let night = 1; night <= 30; night++) {
      content.set(random.bytes(500), 65536 * (night % 20));
      const day = String(night).padStart(2, '0');
      const file = vmaFile([{ name: 'drive-scsi0', content }], { uuid: random.bytes(16), shuffle: random });
      writeFileSync(bench.path('nights', `vzdump-qemu-140-2026_11_${day}-02_00_00.vma.zst`), compress(file));
    }
    if (!haveTool('script', 'the progress bar of imports')) return;
    const env = { ...process.env, VMAR_DATASTORE: bench.store, VMAR_CACHE_DIR: bench.path('cache'), TERM: 'xterm' };
    const command = `'${process.execPath}' '${VMAR}' import nights`;
    const { status, stdout } = spawnSync('script', ['-qec', command, '/dev/null'], {
      ...{ cwd: bench.directory, env: { ...env, TZ: 'UTC', NO_COLOR: '1' }, encoding: 'utf8' },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    expect(status).toBe(0);
    // What is held until the end for each file, Node tells to everybody after the tenth.
    expect(stdout).not.toContain('Warning');
    const bars = [...stdout.matchAll(/importing \[[#-]*\] (\d+)%/g)].map((match) => Number(match[1]));
    // It shows after two seconds; what it shows goes up, over all files.
    expect(bars).toEqual([...bars].sort((a, b) => a - b));
    const rows = stdout.split('\n').filter((line) => line.includes('nights/vzdump-qemu-140'));
    expect(rows).toHaveLength(30);
    expect(rows[0]).toContain('vm/140/2026-11-01T02:00:00Z');
    expect(rows[29]).toContain('vm/140/2026-11-30T02:00:00Z');
    expect(stdout).toMatch(/^all +42\.9 MiB +3\.\d MiB +3\.\d MiB/m);
    expect(stdout).toMatch(/30 backups imported in .*: 42\.9 MiB came down to 3\.\d MiB/);
    expect((await bench.json(['verify', '140'])).ok).toBe(true);
  });

  it('passes over what is none of ours, tells of containers, and goes on after what cannot be read', async () => {
    const directory = bench.path('mixed');
    mkdirSync(directory);
    const night = (guest: number, day: string) => `vzdump-qemu-${guest}-2026_11_${day}-02_00_00.vma`;
    const put = (name: string, content: Uint8Array) => writeFileSync(bench.path('mixed', name), content);
    put(night(9, '01'), oneDisk(random.bytes(70_000)));
    put(night(100, '02'), oneDisk(random.bytes(70_000)));
    put(night(100, '01'), oneDisk(random.bytes(70_000)));
    put('vzdump-qemu-5x.vma', Buffer.from('no archive'));
    put('vzdump-lxc-105-2026_11_01-02_00_00.tar.zst', Buffer.from('a container'));
    put('README.txt', Buffer.from('no archive'));
    const tar = await bench.run(['export', '140', '--format', 'tar', '--output', '-']);
    put('140.vmar.tar.zst', compress(tar.stdout));
    symlinkSync('gone', bench.path('mixed', night(7, '01')));
    put('VZDUMP-QEMU-10-2026_11_01-02_00_00.VMA', oneDisk(random.bytes(70_000)));
    expect(spawnSync('mkfifo', [bench.path('mixed', night(8, '01'))]).status).toBe(0);
    const store = bench.path('mixed-store');
    await bench.json(['init', store]);
    const { status, text, stderr } = await bench.run(['--datastore', store, 'import', 'mixed']);
    expect(status).toBe(4);
    const rows = text.split('\n').filter((line) => line.startsWith('mixed/'));
    expect(rows.map((row) => row.split(/\s+/)[1])).toEqual([
      ...['vm/9/2026-11-01T02:00:00Z', 'vm/10/2026-11-01T02:00:00Z'],
      ...['vm/100/2026-11-01T02:00:00Z', 'vm/100/2026-11-02T02:00:00Z', 'vm/140/2026-11-30T02:00:00Z'],
    ]);
    expect(stderr).toContain(`mixed/${night(8, '01')} left out: it is not a file`);
    expect(text).toMatch(/^5 backups imported, 2 files failed in .*: 1\.\d MiB came down to/m);
    expect(stderr).toContain('1 archive of containers (mixed/vzdump-lxc-105-2026_11_01-02_00_00.tar.zst) left out');
    expect(stderr).toContain(`mixed/${night(7, '01')}: no such file`);
    expect(stderr).not.toContain('README');
    const again = await bench.run(['--datastore', store, 'import', 'mixed']);
    expect(again.text).toMatch(/^0 backups imported, 5 there already, 2 files failed in [^:]*$/m);
  });

  it('names the file that a failure of the datastore keeps out', async () => {
    const directory = bench.path('held');
    mkdirSync(directory);
    const names = [1, 2].map((day) => `vzdump-qemu-150-2026_11_0${day}-02_00_00.vma`);
    for (const name of names) writeFileSync(bench.path('held', name), oneDisk(random.bytes(70_000)));
    expect(spawnSync('mkfifo', [bench.path('slow')]).status).toBe(0);
    // Two descriptors: whoever reads makes its own one non-blocking.
    const pipe = openSync(bench.path('slow'), 'r+');
    const writer = openSync(bench.path('slow'), 'w');
    const holder = bench.start(['import', '-', '--guest', '150'], { stdin: pipe });
    // All but the end: so it has the guest's lock until more comes.
    const whole = oneDisk(random.bytes(3_000_000));
    writeSync(writer, whole.subarray(0, whole.byteLength - 1));
    await lockIsHeld(bench.path('store', 'locks', 'guest-vm+150.lock'));
    const { status, stderr } = await bench.run(['import', 'held']);
    holder.child.kill('SIGINT');
    await holder.finished;
    closeSync(writer);
    closeSync(pipe);
    expect(status).toBe(5);
    for (const name of names) expect(stderr).toContain(`vmar import: held/${name}: vm/150: another vmar`);
  });
});

describe('disks of any length', () => {
  it('come back the same through .vma, twice', async () => {
    const lengths = [1, 511, 512, 513, 4095, 4096, 65_535, 65_536, 65_537, 1_048_575, 3_801_089];
    const disks = lengths.map((length) => ({ name: `d${length}`, content: random.bytes(length) }));
    for (const { name, content } of disks) writeFileSync(bench.path(`${name}.raw`), content.fill(0, 4096, 70_000));
    const words = disks.flatMap(({ name }) => ['--disk', `${name}=${name}.raw`]);
    await bench.json(['backup', '150', ...words, '--output', 'first.vma']);
    await bench.json(['import', 'first.vma', '--guest', '150']);
    await bench.json(['export', '150', '--output', 'second.vma']);
    await bench.json(['second.vma', '--to', 'lengths'], { program: 'vma-restore' });
    await bench.json(['restore', '150', '--to', 'lengths-too']);
    for (const { name, content } of disks) {
      for (const directory of ['lengths', 'lengths-too']) {
        expect(readFileSync(bench.path(directory, `${name}.raw`)).equals(content), `${directory} ${name}`).toBe(true);
      }
    }
  });
});

describe('every .vma that these commands wrote', () => {
  const PYTHON = '/usr/bin/python3';

  it.skipIf(!haveTool(PYTHON, 'the strict second reader of .vma'))('keeps to all that the real writer does', () => {
    const script = fileURLToPath(new URL('../golden/second-vma.py', import.meta.url));
    const names = readdirSync(bench.directory, { recursive: true, encoding: 'utf8' });
    const written = names.filter((name) => /^(single|whole|first|second|raw\/.*|new\/.*)\.vma$/.test(name));
    expect(written.length).toBeGreaterThanOrEqual(6);
    const files = written.map((name) => bench.path(name));
    const { status, stderr } = spawnSync(PYTHON, ['-B', script, 'strict', ...files], { encoding: 'utf8' });
    expect(`${status} ${stderr}`).toBe('0 ');
  });
});
