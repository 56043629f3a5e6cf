// SPDX-License-Identifier: MIT
// vmar drill: real file systems under their own tools, a real boot under QEMU, and that nothing is left of any of it.

import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { readHistory } from '#vmar/src/nightly/history.js';
import { ContainerReader } from '#vmar/src/store/container-reader.js';
import { listPacks } from '#vmar/src/store/stored-packs.js';
import { gptSectors, MIB, makeDisk, mbrSectors, speakingBootSector } from '../live/drill/partitioned.js';
import { Bench, type Json } from './bench.js';
import { makeImage, noise, patch } from './images.js';

const bench = new Bench();
const TMP = bench.path('tmp');
const env = { env: { TMPDIR: TMP } };

function isMissing(...programs: string[]): boolean {
  const path = `${process.env.PATH}:/usr/sbin:/sbin`;
  const missing = programs.filter(
    (each) => spawnSync('sh', ['-c', `command -v ${each}`], { env: { PATH: path } }).status !== 0,
  );
  if (missing.length > 0) console.warn(`\n!!! NOT TESTED: drills that need ${missing.join(', ')}\n`);
  return missing.length > 0;
}

const noExt = isMissing('mkfs.ext4', 'e2fsck');
const noOthers = isMissing('mkfs.xfs', 'xfs_repair', 'mkfs.btrfs', 'btrfs', 'mkfs.vfat', 'fsck.fat');
const noQemu = isMissing('qemu-system-x86_64');

function makeFileSystem(path: string, mib: number, ...words: string[]): string {
  makeImage(path, mib * MIB);
  const { status, stderr } = spawnSync('sh', ['-c', `PATH=$PATH:/usr/sbin:/sbin; exec "$@"`, 'sh', ...words, path]);
  if (status !== 0) throw new Error(`${words.join(' ')}: ${stderr}`);
  return path;
}

async function backUp(guest: string, image: string): Promise<void> {
  await bench.json(['backup', guest, '--disk', `scsi0=${image}`]);
}

/** What drills leave behind, anywhere. */
const left = (): string[] => readdirSync(TMP);
const processes = (): string => spawnSync('pgrep', ['-fa', TMP], { encoding: 'utf8' }).stdout;

async function history() {
  const reports = [];
  for await (const report of readHistory({ root: bench.store })) reports.push(report);
  return reports;
}

beforeAll(async () => {
  mkdirSync(TMP);
  await bench.json(['init', bench.store]);
  if (!noExt) {
    makeFileSystem(bench.path('ext4'), 16, 'mkfs.ext4', '-q');
    await backUp('good', bench.path('ext4'));
  }
  await backUp(
    'speaks',
    makeDisk(bench.path('boot.raw'), 1, [{ at: 0, bytes: speakingBootSector('all is up\r\nlogin: ') }], []),
  );
});

describe('vmar drill --fsck', () => {
  it.skipIf(noExt || noOthers)('checks each partition by its own tool, and says what it cannot check', async () => {
    const vfat = makeFileSystem(bench.path('vfat'), 40, 'mkfs.vfat', '-F', '32');
    // As while it is mounted.
    patch(vfat, 0x41, Uint8Array.of(1));
    const xfs = makeFileSystem(bench.path('xfs'), 304, 'mkfs.xfs', '-q');
    const btrfs = makeFileSystem(bench.path('btrfs'), 116, 'mkfs.btrfs', '-q');
    const swap = makeImage(bench.path('swap'), MIB, [{ at: 4086, bytes: Buffer.from('SWAPSPACE2') }]);
    const [primary, logical] = [
      { atMib: 1, lengthMib: 16, path: bench.path('ext4') },
      { atMib: 20, lengthMib: 40, path: vfat },
    ];
    makeDisk(bench.path('mbr.raw'), 64, mbrSectors(primary, logical), [primary, logical]);
    const parts = [
      { atMib: 1, lengthMib: 304, path: xfs },
      { atMib: 310, lengthMib: 116, path: btrfs },
      { atMib: 430, lengthMib: 1, path: swap },
    ];
    makeDisk(bench.path('gpt.raw'), 440, gptSectors(440, parts), parts);
    await bench.json(['backup', 'two', '--disk', 'sda=mbr.raw', '--disk', 'sdb=gpt.raw']);
    const { ok, disks, damaged } = await bench.json(['drill', 'two', '--fsck'], env);
    expect({ ok, damaged }).toEqual({ ok: true, damaged: [] });
    const told = disks.flatMap(({ name, table, partitions }: Json) =>
      partitions.map(({ partition, fileSystem, result }: Json) =>
        [name, table, partition, fileSystem, result].join(' '),
      ),
    );
    expect(told).toEqual([
      'sda mbr 1 ext4 passed',
      'sda mbr 5 vfat passed',
      'sdb gpt 1 xfs passed',
      'sdb gpt 2 btrfs passed',
      'sdb gpt 3 swap unchecked',
    ]);
    expect(left()).toEqual([]);
  });

  it.skipIf(noExt)('passes what was copied while it was written to, after its journal was replayed', async () => {
    const live = bench.path('live.raw');
    copyFileSync(bench.path('ext4'), live);
    const place = bench.path('mounted');
    mkdirSync(place);
    if (spawnSync('mount', ['-o', 'loop', live, place]).status !== 0) {
      console.warn('\n!!! NOT TESTED: a drill of a file system that was in use (it cannot be mounted here)\n');
      return;
    }
    // An open file without a name, and names that come and go, none of which a power cut harms.
    const script = `cd "$1"; for i in $(seq 200); do echo $i > f$i; done; exec 7>orphan; echo x >&7; sync -f .
      rm orphan f1*; sync -f .; cp "$2" "$3"`;
    spawnSync('sh', ['-c', script, 'sh', place, live, bench.path('crashed.raw')]);
    spawnSync('umount', [place]);
    await backUp('crashed', bench.path('crashed.raw'));
    const { disks } = await bench.json(['drill', 'crashed', '--fsck'], env);
    expect(disks[0].partitions).toMatchObject([{ fileSystem: 'ext4', result: 'passed', replayed: true }]);
    // Without FUSE it is copied to scratch, and found the same.
    const bare = { env: { TMPDIR: TMP, PATH: '/usr/sbin:/sbin' } };
    const again = await bench.run(['--json', 'drill', 'crashed', '--fsck', '--work-dir', TMP], bare);
    expect(again.stderr).toContain('is copied to');
    expect(again.json().disks[0].partitions).toMatchObject([{ result: 'passed', replayed: true }]);
    // The journal was replayed nowhere else.
    await bench.json(['restore', 'crashed', '--disk', 'scsi0=restored.raw']);
    expect(readFileSync(bench.path('restored.raw')).equals(readFileSync(bench.path('crashed.raw')))).toBe(true);
    expect(left()).toEqual([]);
  });

  it.skipIf(noExt)('fails a broken file system, says what its tool said, and keeps a report of it', async () => {
    const broken = bench.path('broken.raw');
    copyFileSync(bench.path('ext4'), broken);
    // The inode of the root directory is no directory any more.
    const content = readFileSync(broken);
    const inodes =
      content.readUInt32LE(4096 + 8) === 0 ? content.readUInt32LE(2048 + 8) : content.readUInt32LE(4096 + 8);
    const blockBytes = 1024 << content.readUInt32LE(1024 + 24);
    const inodeBytes = content.readUInt16LE(1024 + 88);
    const group = content.readUInt32LE((blockBytes === 1024 ? 2048 : blockBytes) + 8);
    expect(group).toBe(inodes);
    patch(broken, group * blockBytes + inodeBytes, Buffer.alloc(inodeBytes, 0x5a));
    await backUp('broken', broken);
    const { status, json } = await bench.run(['--json', 'drill', 'broken', '--fsck'], env);
    expect(status).toBe(1);
    expect(json()).toMatchObject({ ok: false, error: { code: 'drill-failed', exit: 1 } });
    expect(json().disks[0].partitions[0]).toMatchObject({ result: 'failed', output: expect.any(Array) });
    const [report] = await history();
    expect(report).toMatchObject({ kind: 'drill', outcome: 'failed', errorCode: 'drill-failed' });
    expect(report?.guests).toMatchObject([{ guest: 'vm/broken', outcome: 'failed', backup: json().backup }]);
    await bench.json(['drill', 'good', '--fsck'], env);
    const [passed] = await history();
    expect(passed).toMatchObject({ kind: 'drill', outcome: 'ok', guests: [{ guest: 'vm/good', outcome: 'ok' }] });
    const count = (await history()).length;
    await bench.json(['drill', 'good', '--fsck', '--no-report'], env);
    expect(await history()).toHaveLength(count);
  });

  it('fails where there was nothing that it could check', async () => {
    makeImage(bench.path('noise.raw'), MIB, [{ at: 0, bytes: noise(2) }]);
    await backUp('noise', bench.path('noise.raw'));
    const { status, json } = await bench.run(['--json', 'drill', 'noise', '--fsck'], env);
    expect(status).toBe(1);
    expect(json().error.message).toContain('nothing');
    expect(json().disks[0].partitions).toMatchObject([{ fileSystem: 'unknown', result: 'unchecked' }]);
  });

  it.skipIf(noExt)('exits with 3 where it meets damage of the backup', async () => {
    const store = bench.path('damaged');
    await bench.json(['init', store]);
    await bench.json(['--datastore', store, 'backup', '1', '--disk', 'scsi0=ext4']);
    for (const id of (await listPacks(store)).ids) {
      const path = join(store, 'packs', id.slice(0, 2), `${id}.vmar`);
      const reader = ContainerReader.open(path);
      const { content } = reader.header;
      const at = reader.frame(0).offsetBytes + 9;
      const [byte = 0] = reader.readBytes(at, 1);
      reader.close();
      if (content === 'data') patch(path, at, Uint8Array.of(byte ^ 4));
    }
    const { status, json } = await bench.run(['--json', '--datastore', store, 'drill', '1', '--fsck'], env);
    expect(status).toBe(3);
    expect(json()).toMatchObject({ error: { exit: 3 } });
    expect(left()).toEqual([]);
  });
});

/** Programs by their names alone, those of `own` from a directory that the test fills. */
function pathWith(name: string, programs: readonly string[], own: Readonly<Record<string, string>> = {}): string {
  const directory = bench.path(name);
  mkdirSync(directory);
  for (const program of programs) {
    const found = spawnSync('sh', ['-c', `PATH=$PATH:/usr/sbin:/sbin; command -v ${program}`], { encoding: 'utf8' });
    symlinkSync(found.stdout.trim(), join(directory, program));
  }
  for (const [program, text] of Object.entries(own)) writeFileSync(join(directory, program), text, { mode: 0o755 });
  return directory;
}

const BASICS = ['sh', 'sleep', 'rm', 'umount'];
const mounts = (): string[] =>
  readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .filter((line) => line.includes(TMP));

describe('vmar drill --fsck of an XFS whose log wants to be replayed', () => {
  const noXfs = isMissing('mkfs.xfs', 'xfs_repair', 'xfs_io', 'mount');
  let isThere = false;

  beforeAll(async () => {
    if (noXfs) return;
    const dirty = makeFileSystem(bench.path('dirty-xfs'), 304, 'mkfs.xfs', '-q');
    const place = bench.path('xfs-place');
    mkdirSync(place);
    // As after a power cut: what is in the log is nowhere else.
    const script = `mount -o loop "$1" "$2" || exit 9
      (cd "$2" && for i in $(seq 200); do echo $i > f$i; done && sync -f . && rm f1* && xfs_io -x -c 'shutdown -f' .)
      umount "$2"`;
    const made = spawnSync('sh', ['-c', script, 'sh', dirty, place], { encoding: 'utf8' });
    if (made.status === 9) {
      console.warn(`\n!!! NOT TESTED: drills of XFS that wants replay (it cannot be mounted here: ${made.stderr})\n`);
      return;
    }
    expect(made.stderr).toBe('');
    isThere = true;
    await backUp('xfs', dirty);
  });

  const partitionOf = async (environment: typeof env, ...words: string[]): Promise<Json> => {
    const { stderr, json } = await bench.run(['--json', 'drill', 'xfs', '--fsck', ...words], environment);
    expect(stderr).not.toContain('is copied to');
    return json().disks[0].partitions[0];
  };

  it('checks it only where it may be mounted', async ({ skip }) => {
    if (!isThere) skip();
    expect(await partitionOf(env)).toMatchObject({
      result: 'unchecked',
      problem: expect.stringContaining('--allow-mount'),
    });
    const replayed = { fileSystem: 'xfs', result: 'passed', replayed: true };
    expect(await partitionOf(env, '--allow-mount')).toMatchObject(replayed);
    expect([left(), mounts()]).toEqual([[], []]);
  });

  it.skipIf(isMissing('qemu-storage-daemon'))('shows it by qemu-storage-daemon, too', async ({ skip }) => {
    if (!isThere) skip();
    const PATH = pathWith('daemon-only', [...BASICS, 'mount', 'xfs_repair', 'qemu-storage-daemon']);
    const replayed = { result: 'passed', replayed: true };
    expect(await partitionOf({ env: { TMPDIR: TMP, PATH } } as typeof env, '--allow-mount')).toMatchObject(replayed);
    expect([left(), mounts()]).toEqual([[], []]);
  });

  it('leaves nothing mounted when it is interrupted in the middle of the mount', async ({ skip }) => {
    if (!isThere) skip();
    const sign = bench.path('is-mounted');
    const mount = `#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\nmount "$@"\n: > ${sign}\nexec sleep 60\n`;
    const PATH = `${pathWith('slow-mount', [], { mount })}:${process.env.PATH}`;
    const words = ['drill', 'xfs', '--fsck', '--allow-mount'];
    const running = bench.start(words, { env: { TMPDIR: TMP, PATH } });
    for (let tries = 0; tries < 1000 && !existsSync(sign); tries++) await delay(20);
    expect(mounts().filter((line) => line.includes('xfs'))).toHaveLength(1);
    running.child.kill('SIGINT');
    expect((await running.finished).status).toBe(130);
    expect([left(), mounts(), processes()]).toEqual([[], [], '']);
  });
});

describe('vmar drill --boot', () => {
  it.skipIf(noQemu)('passes when the text comes up, also in a line without an end', async () => {
    const words = ['drill', 'speaks', '--boot', '--timeout', '60s', '--memory', '64MiB', '--cpus', '1'];
    const { ok, boot } = await bench.json([...words, '--until', 'login:'], env);
    expect(ok).toBe(true);
    expect(boot).toMatchObject({ line: 'login:', console: ['all is up', 'login:'] });
    const sata = await bench.run([...words, '--until', 'is up', '--bus', 'sata'], env);
    expect(sata.status).toBe(0);
    expect(sata.text).toContain('all is up');
    expect(left()).toEqual([]);
    expect(processes()).toBe('');
  });

  it.skipIf(noQemu)('takes the firmware that it is told to', async () => {
    const words = ['drill', 'speaks', '--boot', '--until', 'login:', '--memory', '64MiB', '--firmware'];
    const bios = ['/usr/share/seabios/bios-256k.bin', '/usr/share/qemu/bios-256k.bin'].find((path) => existsSync(path));
    if (bios === undefined) console.warn('\n!!! NOT TESTED: a drill with SeaBIOS as its firmware (package seabios)\n');
    else {
      // A copy under a name that no default could be.
      copyFileSync(bios, bench.path('own firmware'));
      expect((await bench.json([...words, bench.path('own firmware'), '--timeout', '60s'], env)).ok).toBe(true);
    }
    writeFileSync(bench.path('no-firmware'), Buffer.alloc(256 << 10, 0xf4));
    const { status, json } = await bench.run(['--json', ...words, bench.path('no-firmware'), '--timeout', '2s'], env);
    expect([status, json().error.code, json().boot.console]).toEqual([1, 'drill-failed', []]);
    const missing = await bench.run(['--json', ...words, bench.path('nowhere'), '--timeout', '60s'], env);
    expect([missing.status, missing.json().error.message]).toEqual([1, expect.stringContaining('nowhere')]);
    expect([left(), processes()]).toEqual([[], '']);
  });

  it.skipIf(noQemu)('fails after its time-out, with the end of the console', async () => {
    const words = ['drill', 'speaks', '--boot', '--until', 'never', '--timeout', '3s', '--memory', '64MiB'];
    const { status, json } = await bench.run(['--json', ...words], env);
    expect(status).toBe(1);
    expect(json()).toMatchObject({
      ok: false,
      error: { code: 'drill-failed' },
      boot: { console: ['all is up', 'login:'] },
    });
    expect(processes()).toBe('');
  });

  it.skipIf(noQemu)('leaves no process and no file, however it ends', async () => {
    for (const [signal, status] of [
      ['SIGINT', 130],
      ['SIGKILL', null],
    ] as const) {
      const words = ['drill', 'speaks', '--boot', '--until', 'never', '--timeout', '60s', '--memory', '64MiB'];
      const running = bench.start(words, env);
      let seen = '';
      for (let tries = 0; tries < 500 && !seen.includes('qemu-system'); tries++) {
        await delay(20);
        seen = processes();
      }
      expect(seen).toContain('qemu-system');
      running.child.kill(signal);
      expect((await running.finished).status).toBe(status);
      for (let tries = 0; tries < 500 && (processes() !== '' || left().length > 0); tries++) await delay(20);
      expect(processes()).toBe('');
      expect(left()).toEqual([]);
    }
  });
});

describe('vmar drill', () => {
  it('refuses what makes no sense', async () => {
    const wrong = async (...words: string[]) => await bench.error(['drill', 'speaks', ...words], env);
    expect(await wrong()).toMatchObject({ exit: 2, code: 'which-drill' });
    expect(await wrong('--fsck', '--boot')).toMatchObject({ exit: 2, code: 'which-drill' });
    expect(await wrong('--boot')).toMatchObject({ exit: 2, code: 'no-text' });
    expect(await wrong('--fsck', '--until', 'x')).toMatchObject({ exit: 2, code: 'not-with-fsck' });
    expect(await wrong('--boot', '--until', 'x', '--bus', 'usb')).toMatchObject({ exit: 2, code: 'bad-bus' });
    expect(await wrong('--fsck', '--disk', 'none')).toMatchObject({ exit: 4, code: 'no-such-disk' });
    expect(await wrong('--fsck', '--work-dir', bench.path('nowhere'))).toMatchObject({
      exit: 1,
      code: 'no-work-directory',
    });
    expect(await bench.error(['drill', '999', '--fsck'], env)).toMatchObject({ exit: 4 });
  });
});
