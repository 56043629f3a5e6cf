// SPDX-License-Identifier: MIT
// Imports of .vma files: whatever the order of the clusters, the lengths of the disks and the clusters of the datastore,
// the same bytes come out, or nothing goes in.

import { getEventListeners } from 'node:events';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { beforeAll, describe, expect, it } from 'vitest';
import { compress } from 'zstd-napi';
import { openArchiveVault } from '#vmar/src/archive/archive-vault.js';
import { importFile } from '#vmar/src/archive/import/import-file.js';
import { ImportPlace, type ImportResult } from '#vmar/src/archive/import/import-place.js';
import { type Log, SILENT } from '#vmar/src/base/log.js';
import { readManifest } from '#vmar/src/store/manifests.js';
import { readSidecar } from '#vmar/src/store/sidecars.js';
import { seededRandom } from '../base/random.js';
import { scratchDirectory } from '../base/scratch.js';
import { type VmaFileOptions, vmaFile } from './vma-file.js';
import { CLUSTER, describe as describeBackup, dumpInto, type MemoryDisk, World } from './world.js';

const base = scratchDirectory();
let files = 0;

beforeAll(() => {
  process.env.TZ = 'UTC';
});

async function importAt(
  world: World,
  path: string,
  guestId?: string,
  { log = SILENT, signal }: { readonly log?: Log; readonly signal?: AbortSignal } = {},
): Promise<ImportResult> {
  const store = await world.open();
  const machine = world.machine();
  try {
    const place = new ImportPlace({ store, machine, waitSeconds: 0, log, ...(signal === undefined ? {} : { signal }) });
    const guest = guestId === undefined ? {} : { guest: { namespace: '', guestId } };
    const result = await importFile(path, place, { temporaryDirectory: base, ...guest });
    // A slot that was not given back would be missed by the next import.
    expect(machine.sourceSlots.freeCount).toBe(machine.sourceSlots.count);
    return result;
  } finally {
    await machine.close();
    await store.close();
  }
}

function write(content: Uint8Array, name = `file-${files++}.vma`): string {
  const path = join(base, name);
  writeFileSync(path, content);
  return path;
}

/** Data, holes of all sizes, and blocks alone in their clusters. */
function randomDisk(seed: number, name: string, lengthBytes: number): MemoryDisk {
  const random = seededRandom(seed);
  const content = new Uint8Array(lengthBytes);
  for (let at = 0; at < lengthBytes; ) {
    const length = Math.min(lengthBytes - at, random.integer(1, 300_000));
    if (!random.oneIn(3)) content.set(random.bytes(length), at);
    at += length + (random.oneIn(4) ? random.integer(0, 3_000_000) : 0);
  }
  return { name, content };
}

async function expectDisks(world: World, backup: string, disks: readonly MemoryDisk[]): Promise<void> {
  for (const { name, content } of disks) {
    const { content: restored } = await world.restore(backup, name);
    expect(restored.byteLength, name).toBe(content.byteLength);
    expect(restored.equals(content), name).toBe(true);
  }
  expect((await world.verify()).damage).toEqual([]);
}

describe('a .vma file', () => {
  const shapes = [65536, 131072, 1 << 20, 4 << 20].flatMap((clusterSizeBytes) =>
    [false, true].map((isShuffled) => ({ clusterSizeBytes, isShuffled })),
  );
  it.each(shapes)('gives its disks back, %o', async ({ clusterSizeBytes, isShuffled }) => {
    const seed = 1;
    const world = await World.create(join(base, `w-${clusterSizeBytes}-${isShuffled}`), { clusterSizeBytes });
    const disks = [
      randomDisk(seed, 'drive-scsi0', 9_000_123),
      randomDisk(seed + 1, 'drive-scsi1', 65536),
      randomDisk(seed + 2, 'drive-efidisk0', 540_672),
      randomDisk(seed + 3, 'drive-virtio0', 40_000_001),
      { name: 'drive-zero', content: new Uint8Array(7_000_512) },
    ];
    const options: VmaFileOptions = isShuffled ? { shuffle: seededRandom(seed) } : {};
    const path = write(vmaFile(disks, options));
    const { backup, isKnown } = await importAt(world, path, '100');
    expect(isKnown).toBe(false);
    await expectDisks(world, backup, disks);
  });

  it.each([1, 65535, 65536, 65537, 131072 + 4096, 1_048_576])(
    'keeps a memory state of %d bytes',
    async (lengthBytes) => {
      for (const clusterSizeBytes of [65536, 262144]) {
        const world = await World.create(join(base, `state-${lengthBytes}-${clusterSizeBytes}`), { clusterSizeBytes });
        const state = { name: 'vmstate', content: seededRandom(lengthBytes).bytes(lengthBytes).fill(0, 0, 40000) };
        state.content[lengthBytes - 1] = 7;
        const disks = [randomDisk(5, 'drive-scsi0', 3_000_000), state];
        const path = write(vmaFile(disks, { shuffle: seededRandom(2) }));
        const { backup } = await importAt(world, path, '100');
        await expectDisks(world, backup, disks);
      }
    },
  );

  it('is one backup however often it is imported', async () => {
    const world = await World.create(join(base, 'twice'));
    const disks = [randomDisk(7, 'scsi0', 5_000_000)];
    const path = write(vmaFile(disks));
    const first = await importAt(world, path, '100');
    const second = await importAt(world, path, '100');
    expect(second).toMatchObject({ backup: first.backup, isKnown: true });
    expect(readdirSync(join(world.root, 'manifests/vm/100'))).toHaveLength(1);
    expect((await importAt(world, path, '101')).isKnown).toBe(false);
  });

  it('that is cut off anywhere imports nothing', async () => {
    const world = await World.create(join(base, 'cut'));
    const whole = vmaFile([randomDisk(9, 'scsi0', 2_000_000), randomDisk(10, 'scsi1', 900_000)]);
    const random = seededRandom(11);
    const cuts = [0, 3, 4, 100, 12288, 12800, whole.byteLength - 1];
    for (let i = 0; i < 12; i++) cuts.push(random.integer(1, whole.byteLength - 1));
    for (const at of cuts) {
      const plain = importAt(world, write(whole.subarray(0, at)), '100');
      await expect(plain, `cut at ${at}`).rejects.toMatchObject({
        code: at < 4 ? 'unknown-format' : expect.stringMatching(/^vma-/),
      });
      await expect(plain.catch((error) => error.offsetBytes ?? at)).resolves.toBe(at);
    }
    const packed = compress(whole);
    for (const at of [20, packed.byteLength >> 1, packed.byteLength - 1]) {
      const error = await importAt(world, write(packed.subarray(0, at)), '100').catch((thrown) => thrown);
      expect(error).toMatchObject({ code: 'compressed-cut' });
      const zipped = gzipSync(whole, { level: 1 });
      const cut = Math.floor((at / packed.byteLength) * zipped.byteLength);
      await expect(importAt(world, write(zipped.subarray(0, cut)), '100')).rejects.toMatchObject({
        code: 'compressed-cut',
      });
    }
    expect(existsSync(join(world.root, 'manifests/vm'))).toBe(false);
    expect(readdirSync(join(world.root, 'tmp'))).toEqual([]);
    expect((await world.verify()).damage).toEqual([]);
  });

  it('is taken out of zstd and gzip, by its content and not by its name', async () => {
    const disks = [randomDisk(12, 'scsi0', 3_500_000)];
    const whole = vmaFile(disks);
    // Two frames in a row are one stream, as two members are.
    const half = whole.byteLength >> 1;
    const packed = [
      compress(whole),
      Buffer.concat([compress(whole.subarray(0, half)), compress(whole.subarray(half))]),
      gzipSync(whole, { level: 1 }),
      Buffer.concat([gzipSync(whole.subarray(0, half)), gzipSync(whole.subarray(half))]),
    ];
    for (const [at, content] of packed.entries()) {
      const world = await World.create(join(base, `packed-${at}`));
      const { backup } = await importAt(world, write(content, `packed-file-${at}`), '100');
      await expectDisks(world, backup, disks);
    }
  });

  it('leaves nothing behind in the signal that may stop it, which is that of many files', async () => {
    const world = await World.create(join(base, 'signalled'));
    const disks = [randomDisk(13, 'scsi0', 500_000)];
    const path = join(base, 'signalled.vmar');
    const vault = await openArchiveVault(
      { kind: 'file', path, overwrite: false },
      { clusterSizeBytes: CLUSTER, hash: 'blake3' },
    );
    const machine = world.machine();
    await dumpInto(vault, machine, describeBackup('101', disks, 1_760_000_000), disks);
    await machine.close();
    const { signal } = new AbortController();
    const files = [path, write(compress(vmaFile(disks))), write(vmaFile(disks))];
    for (const [at, file] of files.entries()) {
      expect((await importAt(world, file, `${101 + at}`, { signal })).isKnown).toBe(false);
      expect(getEventListeners(signal, 'abort')).toEqual([]);
    }
  });

  it('that decompresses to far more than it is takes no memory for it', async () => {
    const world = await World.create(join(base, 'bomb'));
    const bomb = compress(Buffer.alloc(256 << 20));
    expect(bomb.byteLength).toBeLessThan(100_000);
    const before = process.memoryUsage().arrayBuffers;
    await expect(importAt(world, write(bomb), '100')).rejects.toMatchObject({ code: 'unknown-format' });
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(100 << 20);
    // A frame header that asks for a window of 2 GiB.
    const window = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, (31 - 10) << 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    await expect(importAt(world, write(window), '100')).rejects.toMatchObject({ code: 'window-too-large' });
  });

  it('tells guest and time by its name, and brings its notes, log and mark', async () => {
    const world = await World.create(join(base, 'named'));
    const name = 'vzdump-qemu-107-2026_11_21-02_00_00';
    const configs = [{ name: 'qemu-server.conf', content: Buffer.from('boot: c\nname: web\n[snap]\nname: old\n') }];
    const path = write(vmaFile([randomDisk(14, 'drive-scsi0', 100_000)], { configs }), `${name}.vma`);
    write(Buffer.from('before the upgrade\n'), `${name}.vma.notes`);
    write(Buffer.from('INFO: starting\n'), `${name}.log`);
    write(Buffer.from(''), `${name}.vma.protected`);
    const { backup } = await importAt(world, path);
    expect(backup).toBe('vm/107/2026-11-21T02:00:00Z');
    const timeSeconds = Date.UTC(2026, 10, 21, 2) / 1000;
    const ref = { namespace: '', guestType: 'vm' as const, guestId: '107', timeSeconds };
    const { manifest, digest } = await readManifest(world.root, ref);
    expect(manifest).toMatchObject({ guestName: 'web', source: 'vma', consistency: 'crash' });
    expect(manifest.configs.map((config) => config.name)).toEqual(['qemu-server.conf', `${name}.log`]);
    expect(Buffer.from(manifest.configs[0]!.content).equals(configs[0]!.content)).toBe(true);
    const sidecar = await readSidecar(world.root, ref, digest);
    expect(sidecar).toMatchObject({ notes: 'before the upgrade\n', isProtected: true });
  });

  it('whose names no disk may have gets others, and says so', async () => {
    const world = await World.create(join(base, 'names'));
    const content = seededRandom(1).bytes(10_000);
    const warned: string[] = [];
    const log = { ...SILENT, warn: (text: string) => warned.push(text) };
    const path = write(
      vmaFile([
        { name: 'Festplatte ü', content },
        { name: '-x', content },
      ]),
    );
    await importAt(world, path, '100', { log });
    expect(warned).toHaveLength(2);
    const { content: restored } = await world.restore('100', 'disk--x');
    expect(restored.equals(content)).toBe(true);
  });

  it('of thirty nights costs one night and the changes', async () => {
    const world = await World.create(join(base, 'nights'));
    const disk = randomDisk(20, 'scsi0', 8_000_000);
    const random = seededRandom(21);
    let later = 0;
    for (let night = 0; night < 6; night++) {
      const at = 65536 * random.integer(0, 100);
      disk.content.set(random.bytes(1000), at);
      const uuid = random.bytes(16);
      const path = write(vmaFile([disk], { shuffle: random, uuid, timeSeconds: 1_763_600_000 + night * 86400 }));
      const { disks } = await importAt(world, path, '100');
      if (night > 0) later += disks[0]!.newBytes;
    }
    expect(later).toBeLessThanOrEqual(5 * 65536);
  });
});
