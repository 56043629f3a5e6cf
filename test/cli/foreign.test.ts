// SPDX-License-Identifier: MIT
// verify, show and list of .vma files as they are; and every row of "what the real tool does with bad input", by the
// program itself: verify names what is wrong, import takes none of it.

import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { beforeAll, describe, expect, it } from 'vitest';
import { compress, decompress } from 'zstd-napi';
import { haveTool } from '../base/scratch.js';
import {
  extentOffsets,
  forgeBlobs,
  forgeDisks,
  forgeExtent,
  forgeHeader,
  sealExtent,
  sealHeader,
} from '../formats/vma/forge.js';
import { Bench, type Json } from './bench.js';

const SAMPLE = new URL('../fixtures/vma/two-disks.vma.zst', import.meta.url).pathname;
const PLAIN = Buffer.from(decompress(readFileSync(SAMPLE)));
const [FIRST, SECOND] = extentOffsets(PLAIN) as [number, number];
const LAST = extentOffsets(PLAIN).at(-2)!;

const bench = new Bench();

function changed(change: (bytes: Buffer) => void): Buffer {
  const copy = Buffer.from(PLAIN);
  change(copy);
  return copy;
}

/** An extent of the sample with a change, its checksum right again. */
function changedExtent(change: (bytes: Buffer) => void): Buffer {
  return changed((bytes) => {
    change(bytes);
    sealExtent(bytes, FIRST);
  });
}

function named(name: string): Buffer {
  const { blobs, pointers } = forgeBlobs(`${name}\0`);
  return Buffer.concat([forgeHeader({ blobs, devices: [[1, pointers[0]!, 5n]] }), forgeExtent([[1, 0, 1]])]);
}

function sized(sizeBytes: bigint): Buffer {
  const { blobs, pointers } = forgeBlobs('drive-scsi0\0');
  return forgeHeader({ blobs, devices: [[1, pointers[0]!, sizeBytes]] });
}

function devices(count: number): Buffer {
  const { blobs, pointers } = forgeBlobs(...Array.from({ length: count }, (_, id) => `d${id + 1}\0`));
  const header = forgeHeader({ blobs, devices: pointers.map((pointer, at) => [at + 1, pointer, 1n] as const) });
  const ids = Array.from({ length: count }, (_, at) => at + 1);
  const extents = [0, 59, 118, 177, 236].map((from) =>
    forgeExtent(ids.slice(from, from + 59).map((id) => [id, 0, 0] as const)),
  );
  return Buffer.concat([header, ...extents]);
}

const hostilePointers = forgeHeader({
  blobs: Buffer.alloc(524288 - 12288, 0xff),
  change: (bytes) => {
    for (let at = 60; at < 12288; at += 4) bytes.writeUInt32BE((at * 2654435761) % 512000, at);
  },
});

/** What is no good: its content, the kind of damage, and the offset where it can be told beforehand. */
const BAD: Record<string, [content: Buffer, kind: string, offset?: number]> = {
  'last-extent-dropped': [PLAIN.subarray(0, LAST), 'vma-incomplete', LAST],
  'cluster-twice': [Buffer.concat([PLAIN, PLAIN.subarray(FIRST, SECOND)]), 'vma-cluster', PLAIN.byteLength + 40],
  'header-md5': [changed((bytes) => bytes.writeUInt8(1, 100)), 'vma-header', 0],
  'extent-md5': [changed((bytes) => bytes.writeUInt8(1, FIRST + 511)), 'vma-extent', FIRST],
  'version-0': [changed((bytes) => sealHeader(Buffer.from(bytes.fill(0, 4, 8).buffer))), 'vma-header', 4],
  'extent-uuid': [changedExtent((bytes) => bytes.writeUInt8(bytes[FIRST + 8]! ^ 1, FIRST + 8)), 'vma-extent', FIRST],
  'extent-reserved': [changedExtent((bytes) => bytes.writeUInt16BE(1, FIRST + 4)), 'vma-extent', FIRST],
  'block-count': [changedExtent((bytes) => bytes.writeUInt16BE(900, FIRST + 6)), 'vma-extent', FIRST],
  'cut-in-extent': [PLAIN.subarray(0, SECOND + 1000), 'vma-cut', SECOND + 1000],
  'cut-in-header': [PLAIN.subarray(0, 5000), 'vma-cut', 5000],
  'trailing-bytes': [Buffer.concat([PLAIN, Buffer.alloc(77)]), 'vma-extent', PLAIN.byteLength],
  'past-device': [Buffer.concat([forgeDisks([5]), forgeExtent([[1, 1, 0]])]), 'vma-cluster', 12840],
  'far-past-device': [Buffer.concat([forgeDisks([5]), forgeExtent([[1, 2 ** 32 - 1, 0]])]), 'vma-cluster', 12840],
  'unknown-device': [Buffer.concat([forgeDisks([5]), forgeExtent([[9, 0, 0]])]), 'vma-cluster', 12840],
  'dangling-config': [forgeHeader({ blobs: forgeBlobs('a\0').blobs, configs: [[1, 4000]] }), 'vma-header', 3068],
  'name-with-slash': [named('a/b'), 'vma-header', 4128],
  'name-dot-dot': [named('..'), 'vma-header', 4128],
  'device-255': [devices(255), 'vma-header', 4096 + 255 * 32],
  'size-2-63': [sized(2n ** 63n), 'vma-header', 4128],
  'size-2-64': [sized(2n ** 64n - 1n), 'vma-header', 4128],
  'hostile-pointers': [hostilePointers, 'vma-header'],
  'no-archive': [Buffer.from('this is text'.padEnd(1000)), 'vma-header', 0],
};

/** What is good, or what nothing can tell from good. */
const GOOD: Record<string, Buffer> = {
  'payload-bit': changed((bytes) => bytes.writeUInt8(bytes[FIRST + 600]! ^ 1, FIRST + 600)),
  'extents-reversed': Buffer.concat([
    PLAIN.subarray(0, FIRST),
    ...extentOffsets(PLAIN)
      .slice(0, -1)
      .map((from, at, all) => PLAIN.subarray(from, all[at + 1] ?? PLAIN.byteLength))
      .reverse(),
  ]),
  'header-reserved': changed((bytes) => sealHeader(Buffer.from(bytes.fill(0xff, 60, 70).buffer))),
  'blockinfo-reserved': changedExtent((bytes) => bytes.writeUInt8(0xff, FIRST + 42)),
  'header-not-padded': (() => {
    const { blobs, pointers } = forgeBlobs('d\0');
    const header = { blobs, headerSize: 12288 + blobs.byteLength, devices: [[1, pointers[0]!, 5n] as const] };
    return Buffer.concat([forgeHeader(header), forgeExtent([[1, 0, 1]])]);
  })(),
  '254-devices': devices(254),
  'name-nul': named('drive\0../x'),
};

beforeAll(async () => {
  await bench.json(['init', bench.store]);
  for (const kind of ['bad', 'good']) mkdirSync(bench.path(kind));
  for (const [name, [content]] of Object.entries(BAD)) writeFileSync(bench.path('bad', `${name}.vma`), content);
  for (const [name, content] of Object.entries(GOOD)) writeFileSync(bench.path('good', `${name}.vma`), content);
});

describe('bad .vma files', () => {
  it('are told by verify, each with its kind and offset', async () => {
    const names = Object.keys(BAD);
    const finished = await bench.run(['--json', 'verify', ...names.map((name) => `bad/${name}.vma`)]);
    expect(finished.status).toBe(3);
    const { ok, damage } = finished.json();
    expect(ok).toBe(false);
    for (const [name, [, kind, offset]] of Object.entries(BAD)) {
      const [found] = damage.filter(({ file }: Json) => file === `bad/${name}.vma`);
      const place = offset === undefined ? {} : { offset };
      expect(found, name).toMatchObject({ kind, backups: [`bad/${name}.vma`], ...place });
    }
  });

  it('import nothing, not even beside others, and good ones go in', async () => {
    const finished = await bench.run(['--json', 'import', 'bad', '--guest', '1']);
    expect(finished.status).toBeGreaterThan(0);
    const { imported, failed } = finished.json();
    expect(imported).toEqual([]);
    expect(failed.map(({ file }: Json) => file).sort()).toEqual(
      Object.keys(BAD)
        .map((name) => `bad/${name}.vma`)
        .sort(),
    );
    for (const { error } of failed) expect(error.code).toMatch(/^(vma-|unknown-format)/);
    expect(readdirSync(bench.path('store', 'tmp'))).toEqual([]);
    expect((await bench.json(['list'])).backups).toEqual([]);
  });

  it('that the real tool accepts, and rightly, are accepted', async () => {
    const names = Object.keys(GOOD).map((name) => `good/${name}.vma`);
    expect(await bench.json(['verify', ...names])).toMatchObject({ ok: true, checked: { backups: names.length } });
  });

  it('of a newer version are told from damage', async () => {
    writeFileSync(
      bench.path('newer.vma'),
      changed((bytes) => {
        bytes.writeUInt32BE(2, 4);
        sealHeader(bytes);
      }),
    );
    expect(await bench.error(['verify', 'newer.vma'])).toMatchObject({ code: 'newer-version', exit: 1 });
  });
});

describe('vmar verify FILE.vma', () => {
  it('tells where a compressed file ends, and whether its compression is sound', async () => {
    const packed: Record<string, Buffer> = { zst: Buffer.from(compress(PLAIN)), gz: gzipSync(PLAIN, { level: 1 }) };
    if (haveTool('lzop', 'cut .vma.lzo files')) {
      writeFileSync(bench.path('x'), PLAIN);
      packed.lzo = spawnSync('lzop', ['-c', bench.path('x')], { maxBuffer: 1 << 30 }).stdout;
    }
    const files = Object.entries(packed).flatMap(([extension, whole]) => {
      const at = whole.byteLength >> 1;
      const flipped = Buffer.from(whole);
      flipped[at]! ^= 0x10;
      writeFileSync(bench.path(`whole.vma.${extension}`), whole);
      writeFileSync(bench.path(`cut.vma.${extension}`), whole.subarray(0, at));
      writeFileSync(bench.path(`flipped.vma.${extension}`), flipped);
      return [`whole.vma.${extension}`, `cut.vma.${extension}`, `flipped.vma.${extension}`];
    });
    const { damage, checked } = (await bench.run(['--json', 'verify', ...files])).json();
    expect(checked.backups).toBe(files.length);
    for (const [extension, whole] of Object.entries(packed)) {
      const of = (name: string) => damage.filter(({ file }: Json) => file === `${name}.vma.${extension}`);
      expect(of('whole'), extension).toEqual([]);
      expect(of('cut'), extension).toMatchObject([{ kind: 'compression', offset: whole.byteLength >> 1 }]);
      expect(of('flipped'), extension).toMatchObject([{ kind: 'compression' }]);
    }
  });

  it('counts what it checked', async () => {
    const { ok, checked } = await bench.json(['verify', SAMPLE]);
    expect(ok).toBe(true);
    expect(checked).toMatchObject({ backups: 1, disks: 2, clusters: 209, extents: 4, storedBytes: 53_166 });
    expect((await bench.run(['verify', SAMPLE])).text).toContain('content has no checksum');
    expect(await bench.error(['verify', 'nowhere.vma'])).toMatchObject({ code: 'no-such-file', exit: 4 });
  });
});

describe('vmar show and list FILE.vma', () => {
  const NAME = 'vzdump-qemu-105-2026_11_20-02_00_00.vma.zst';

  it('tell what the file and its companions say', async () => {
    copyFileSync(SAMPLE, bench.path(NAME));
    writeFileSync(bench.path(`${NAME}.notes`), 'before the update\n');
    writeFileSync(bench.path(NAME.replace('.vma.zst', '.log')), 'INFO: done\n');
    const known = { backup: NAME, guest: 'vm/105', time: '2026-11-20T02:00:00Z', notes: 'before the update\n' };
    const shown = await bench.json(['show', NAME]);
    expect(shown).toMatchObject({ ...known, guestName: 'sample', source: 'vma', protected: false });
    expect(shown.disks).toEqual([
      { device: 1, name: 'drive-scsi0', kind: 'disk', size: 8_388_608 },
      { device: 2, name: 'drive-scsi1', kind: 'disk', size: 5_244_416 },
    ]);
    expect(shown.configs.map(({ name }: Json) => name)).toEqual([
      'qemu-server.conf',
      'qemu-server.fw',
      'vzdump-qemu-105-2026_11_20-02_00_00.log',
    ]);
    expect((await bench.run(['show', NAME])).text).toMatch(/drive-scsi1 +disk +5 MiB +5244416/);
    expect((await bench.json(['list', NAME])).backups).toMatchObject([{ ...known, size: 13_633_024 }]);
  });

  it('print a configuration file as it is', async () => {
    const { text } = await bench.run(['show', SAMPLE, '--config', 'qemu-server.conf']);
    expect(text).toMatch(/^name: sample\n/);
    expect(await bench.error(['serve', SAMPLE, '--socket', 's'])).toMatchObject({ code: 'foreign-archive', exit: 1 });
  });
});
