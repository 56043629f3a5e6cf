// SPDX-License-Identifier: MIT
// vmar export: a backup goes out in each format and comes back the same.

import { spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { VmaReader } from '#vmar/formats/vma/reader.js';
import { seededRandom } from '../base/random.js';
import { haveTool } from '../base/scratch.js';
import { Bench } from './bench.js';

const bench = new Bench();
const SECONDS = 1_700_000_000;
const BACKUP = 'vm/100/2023-11-14T22:13:20Z';
/** Lengths that are a multiple of nothing. */
const DISKS = { scsi0: sparse(3_333_333), scsi1: sparse(70_001) };
const formats = ['vmar', 'vma', 'tar'] as const;

function sparse(lengthBytes: number): Uint8Array {
  const random = seededRandom(lengthBytes);
  const content = new Uint8Array(lengthBytes);
  for (let at = 0; at < lengthBytes; at += 400_000) content.set(random.bytes(Math.min(150_000, lengthBytes - at)), at);
  content[lengthBytes - 1] = 9;
  return content;
}

beforeAll(async () => {
  await bench.json(['init', bench.store, '--cluster-size', '128KiB']);
  for (const [name, content] of Object.entries(DISKS)) writeFileSync(bench.path(`${name}.raw`), content);
  writeFileSync(bench.path('100.conf'), 'name: web\ncores: 2\n');
  const disks = Object.keys(DISKS).flatMap((name) => ['--disk', `${name}=${name}.raw`]);
  await bench.json(['backup', '100', ...disks, '--config', '100.conf', '--time', `${SECONDS}`]);
});

async function expectSame(backup: string, env: { VMAR_DATASTORE?: string } = {}): Promise<void> {
  const out = `out-${readdirSync(bench.directory).length}`;
  await bench.json(['restore', backup, '--to', out], { env });
  for (const [name, content] of Object.entries(DISKS)) {
    expect(readFileSync(bench.path(out, `${name}.raw`)).equals(content), name).toBe(true);
  }
  expect(readFileSync(bench.path(out, '100.conf'), 'utf8')).toBe('name: web\ncores: 2\n');
}

describe('vmar export', () => {
  it.each(formats)('to .%s comes back as the same backup, through a file and a pipe', async (format) => {
    const exported = await bench.json(['export', '100', '--output', `e.${format}`]);
    expect(exported).toMatchObject({ backup: BACKUP, format, output: `e.${format}`, size: 3_403_334 });
    const fd = openSync(bench.path(`piped.${format}`), 'w');
    const piped = await bench.run(['export', '100', '--format', format, '--output', '-'], { stdout: fd });
    closeSync(fd);
    expect(piped.status).toBe(0);
    if (format !== 'vmar') {
      const [file, stream] = [`e.${format}`, `piped.${format}`].map((name) => readFileSync(bench.path(name)));
      expect(stream!.equals(file!)).toBe(true);
    }
    for (const [store, file] of [
      ['a', `e.${format}`],
      ['b', `piped.${format}`],
    ] as const) {
      const env = { VMAR_DATASTORE: bench.path(`${format}-${store}`) };
      await bench.json(['init', env.VMAR_DATASTORE], { env });
      const { imported } = await bench.json(['import', file, '--guest', '100', '--time', `${SECONDS}`], { env });
      expect(imported).toMatchObject([{ backup: BACKUP, known: false, size: 3_403_334 }]);
      await expectSame(BACKUP, env);
      // The datastore that it came from knows it, too.
      expect((await bench.json(['import', file, '--guest', '100'])).imported).toMatchObject([{ known: true }]);
    }
    expect((await bench.json(['list'])).backups).toHaveLength(1);
  });

  it.each(formats)('to .%s waits for whoever reads it, a slow one too', async (format) => {
    const program = new URL('../../dist/bundle/cli/vmar.js', import.meta.url).pathname;
    const words = [program, 'export', '100', '--format', format, '--output', '-'];
    const slowly = '(for piece in 1 2 3; do sleep 0.3; head -c 100000; done; cat)';
    const script = `set -o pipefail; "$@" | ${slowly} >${bench.path(`slow.${format}`)}`;
    const env = { ...process.env, VMAR_DATASTORE: bench.store, VMAR_CACHE_DIR: bench.path('cache') };
    const { status, stderr } = spawnSync('bash', ['-c', script, 'bash', process.execPath, ...words], { env });
    expect({ status, said: stderr.toString() }).toMatchObject({ status: 0 });
    // Threads take turns as they like in a .vmar, so that two are rarely the same, but each is whole or damaged.
    if (format === 'vmar') expect(await bench.json(['verify', 'slow.vmar'])).toMatchObject({ ok: true });
    else expect(readFileSync(bench.path(`slow.${format}`)).equals(readFileSync(bench.path(`e.${format}`)))).toBe(true);
  });

  it('to a directory is named as those want it who read it', async () => {
    await bench.json(['export', '100', '--format', 'vma', '--output', `${bench.directory}/`]);
    const name = 'vzdump-qemu-100-2023_11_14-22_13_20.vma';
    expect((await bench.json(['import', name])).imported).toMatchObject([{ backup: BACKUP, known: true }]);
    const header: unknown[] = [];
    const reader = new VmaReader({ header: (found) => header.push(found), cluster: () => undefined });
    reader.push(readFileSync(bench.path(name)));
    reader.end();
    expect(header).toMatchObject([
      {
        timeSeconds: SECONDS,
        devices: [
          { id: 1, name: 'scsi0', sizeBytes: 3_333_333 },
          { id: 2, name: 'scsi1' },
        ],
      },
    ]);
  });

  it('to a directory says when its name is none that Proxmox knows', async () => {
    mkdirSync(bench.path('named'));
    await bench.json(['backup', 'web01', '--disk', 'scsi0=scsi0.raw', '--time', `${SECONDS}`]);
    const told = await bench.run(['export', 'web01', '--format', 'vma', '--output', 'named/']);
    expect(told.stderr).toContain(
      'guest web01 has no number: Proxmox knows the file once its name says vzdump-qemu-NUMBER-',
    );
    expect((await bench.run(['export', 'web01', '--output', 'named.vma'])).stderr).not.toContain('has no number');
  });

  it('to .vma tells what qmrestore would leave out', async () => {
    const bare = await bench.run(['export', '100', '--output', 'bare.vma']);
    expect(bare.stderr).toContain('qmrestore does not take it: the backup holds no qemu-server.conf');
    const config = bench.path('qemu-server.conf');
    const backedUp = ['backup', '101', '--disk', 'drive-scsi0=scsi1.raw', '--disk', 'drive-scsi1=scsi1.raw'];
    const lines = ['name: web', '#qmdump#map:scsi0:drive-scsi0:local-lvm:raw:', '#qmdump#map:scsi1:drive-scsi1::raw:'];
    for (const count of [2, 3]) {
      writeFileSync(config, `${lines.slice(0, count).join('\n')}\n`);
      await bench.json([...backedUp, '--config', config]);
      const { stderr } = await bench.run(['export', '101', '--output', `mapped-${count}.vma`]);
      if (count === 2) expect(stderr).toContain('qmrestore leaves out drive-scsi1: ');
      else expect(stderr).not.toContain('qmrestore');
    }
  });

  it('writes over nothing, and leaves nothing of what failed', async () => {
    writeFileSync(bench.path('mine.vma'), 'mine');
    for (const format of formats) {
      const words = ['export', '100', '--format', format, '--output', 'mine.vma'];
      expect(await bench.error(words)).toMatchObject({ code: 'exists', exit: 1 });
    }
    const before = readdirSync(bench.directory).length;
    writeFileSync(bench.path('large.conf'), Buffer.alloc(70_000));
    await bench.json(['backup', '7', '--disk', 'scsi0=scsi1.raw', '--config', 'large.conf']);
    expect(await bench.error(['export', '7', '--output', 'large.vma'])).toMatchObject({ exit: 2 });
    expect(readdirSync(bench.directory)).toHaveLength(before + 1);
    expect(await bench.error(['export', '100', '--output', 'x.zip'])).toMatchObject({ code: 'bad-output', exit: 2 });
    expect(await bench.error(['export', '100'])).toMatchObject({ code: 'needs-output', exit: 2 });
    expect(await bench.error(['export', '999', '--output', 'x.vma'])).toMatchObject({ exit: 4 });
  });

  it('by a tar gives the disks to tar and dd', async () => {
    if (!haveTool('tar', 'restoring a tar of ours without vmar')) return;
    await bench.json(['export', '100', '--output', 'plain.tar']);
    const script = `set -e; mkdir plain; tar xf plain.tar -C plain; cd plain; truncate -s 3333333 scsi0.raw
      for piece in disks/scsi0/*.raw; do offset=$(basename "$piece" .raw)
      dd if="$piece" of=scsi0.raw bs=64K seek=$((10#$offset / 65536)) conv=notrunc status=none; done`;
    const { status, stderr } = spawnSync('bash', ['-c', script], { cwd: bench.directory });
    expect(`${status} ${stderr}`).toBe('0 ');
    expect(readFileSync(bench.path('plain', 'scsi0.raw')).equals(DISKS.scsi0)).toBe(true);
  });

  it('by a tar of a time after 2038 has headers that tar reads', async () => {
    if (!haveTool('tar', 'listing a tar of ours of the year 2100')) return;
    await bench.json(['backup', '2100', '--disk', 'scsi0=scsi0.raw', '--time', '4102444800']);
    await bench.json(['export', '2100', '--output', 'late.tar']);
    const { status, stderr, stdout } = spawnSync('tar', ['tvf', bench.path('late.tar')], { encoding: 'utf8' });
    expect(`${status} ${stderr}`).toBe('0 ');
    expect(stdout).toMatch(/ 2038-01-1\d .* vmar\.json$/m);
    expect((await bench.json(['import', 'late.tar'])).imported).toMatchObject([{ known: true }]);
  });

  it('of a tar that is damaged or cut off anywhere comes nothing back', async () => {
    await bench.json(['export', '100', '--output', 'whole.tar']);
    const whole = readFileSync(bench.path('whole.tar'));
    const flipped = Buffer.from(whole);
    flipped[whole.byteLength - 200_000]! ^= 1;
    const cases: [string, Buffer][] = [['flipped', flipped]];
    for (const at of [600, 5000, 1_000_000, whole.byteLength - 2000]) cases.push([`${at}`, whole.subarray(0, at)]);
    for (const [name, content] of cases) {
      writeFileSync(bench.path('bad.tar'), content);
      const error = await bench.error(['import', 'bad.tar', '--guest', '8']);
      expect(error, name).toMatchObject({ code: expect.stringMatching(/^tar-/), exit: 3 });
    }
    expect(await bench.error(['list', '8'])).toMatchObject({ exit: 4 });
  });
});

describe('vmar backup --output', () => {
  it('writes a .vma at once', async () => {
    const words = ['backup', '55', '--disk', 'scsi0=scsi0.raw', '--time', `${SECONDS}`];
    expect((await bench.json([...words, '--output', 'direct.vma'])).backup).toBe('direct.vma');
    await bench.json(['import', 'direct.vma', '--guest', '55']);
    await bench.json(['restore', '55', '--to', 'direct']);
    expect(readFileSync(bench.path('direct', 'scsi0.raw')).equals(DISKS.scsi0)).toBe(true);
    await bench.json([...words, '--output', '.', '--format', 'vma']);
    expect(readdirSync(bench.directory)).toContain('vzdump-qemu-55-2023_11_14-22_13_20.vma');
    const fd = openSync(bench.path('piped-backup.vma'), 'w');
    const piped = await bench.run([...words, '--output', '-', '--format', 'vma'], { stdout: fd });
    closeSync(fd);
    expect(piped.status).toBe(0);
    await bench.json(['import', 'piped-backup.vma', '--guest', '56']);
    expect(await bench.error([...words, '--output', 'x.tar'])).toMatchObject({ code: 'no-tar', exit: 2 });
  });
});
