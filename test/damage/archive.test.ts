// SPDX-License-Identifier: MIT
// No byte of an archive can change, and no byte of its end be missing, without verify saying so and restore refusing.

import { closeSync, existsSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { CONTAINER_HEADER_BYTES, decodeContainerHeader } from '#vmar/formats/vmar/container-header.js';
import type { Manifest } from '#vmar/formats/vmar/manifest.js';
import { openArchive } from '#vmar/src/archive/open-backup.js';
import type { DamageKind, VerifyReport } from '#vmar/src/archive/verify/damage.js';
import { scanIds } from '#vmar/src/archive/verify/scan-ids.js';
import { verifyArchive } from '#vmar/src/archive/verify/verify-archive.js';
import { DamageError, FailedError } from '#vmar/src/base/errors.js';
import { verifyExtents } from '#vmar/src/pipeline/verify-extents.js';
import type { World } from '../archive/world.js';
import { seededRandom } from '../base/random.js';
import { scratchDirectory } from '../base/scratch.js';
import { dissectContainer, lostRanges, needsOf, type Part, type PartName } from './anatomy.js';
import { inWords, whileFlipped, whileHolding } from './lanes.js';
import { resealHeader } from './reseal.js';
import { restoreArchiveTo } from './restoring.js';
import { ARCHIVE_DISKS, makeTinyArchive } from './tiny-archive.js';
import { makeTinyStore } from './tiny-store.js';

const base = scratchDirectory();
const random = seededRandom(12);
const KINDS: Readonly<Partial<Record<PartName, DamageKind>>> = {
  header: 'container',
  'extent head': 'extent',
  frame: 'frame',
  'chunk page': 'table',
  'frame page': 'table',
  footer: 'container',
};

let path: string;
let world: World;
let bytes: Buffer;
let parts: Part[];
let manifest: Manifest;
const chunks = new Map<string, Buffer>();
let needs: Map<string, Set<string>>;

beforeAll(async () => {
  ({ path, world } = await makeTinyArchive(join(base, 'original')));
  bytes = readFileSync(path);
  parts = dissectContainer(path, bytes, chunks);
  const opened = await openArchive(path);
  manifest = opened.manifest;
  await opened.close();
  needs = needsOf(manifest, chunks);
});

async function verify(mode: 'full' | 'quick' = 'full'): Promise<VerifyReport> {
  return await verifyArchive(path, { mode, portable: false, workers: 0 });
}

/** Disks that need anything in a structure. Without header or footer nobody knows of any. */
function disksOf(part: Part): string[] {
  if (part.name === 'header' || part.name === 'footer') return [];
  const ids = new Set(part.ids);
  return [...needs].filter(([, needed]) => [...needed].some((id) => ids.has(id))).map(([disk]) => `${path}:${disk}`);
}

/** The structures that the manifest, and with it the names of the disks, is found by. */
function hidesManifest(part: Part): boolean {
  const at = parts.findLastIndex((candidate) => candidate.name === 'extent head');
  return part === parts[at] || part === parts[at + 1];
}

function judge(part: Part, at: number, report: VerifyReport): string | undefined {
  const [record, ...more] = report.damage;
  const where = `${part.name} at ${at}: ${inWords(report)}`;
  if (record === undefined || more.length > 0) return `${where}: not one record`;
  if (record.kind !== KINDS[part.name] || record.file !== path) return `${where}: the wrong kind or file`;
  const inRange = record.offsetBytes === part.from && at < record.offsetBytes + record.lengthBytes;
  if (!inRange) return `${where}: the wrong range`;
  if ([...record.backups].join() !== path) return `${where}: the wrong backup`;
  const disks = hidesManifest(part) ? [] : disksOf(part);
  return [...record.disks].sort().join() === disks.sort().join()
    ? undefined
    : `${where}: the wrong disks, not ${disks}`;
}

describe('an archive', () => {
  it('is clean as it was made, and has all structures', async () => {
    expect((await verify()).damage).toEqual([]);
    expect((await verify('quick')).damage).toEqual([]);
    expect(new Set(parts.map((part) => part.name))).toEqual(new Set(Object.keys(KINDS)));
  });

  it('misses every byte that changes, and tells what and whom it concerns', async () => {
    const complaints: (string | undefined)[] = [];
    for (const part of parts) {
      for (let at = part.from; at < part.to; at++) {
        const mask = random.oneIn(2) ? 0xff : 1 << random.integer(0, 7);
        complaints.push(judge(part, at, await whileFlipped(path, at, mask, verify)));
      }
    }
    expect(complaints.filter((complaint) => complaint !== undefined).slice(0, 10)).toEqual([]);
    expect(complaints).toHaveLength(bytes.length);
  });

  it('that was cut at any byte is damaged, and is not restored', async () => {
    const complaints: string[] = [];
    const target = join(base, 'target');
    for (let length = 0; length < bytes.length; length++) {
      await whileHolding(path, bytes.subarray(0, length), async () => {
        const { damage } = await verify();
        if (damage.length === 0 || !damage[0]!.backups.has(path))
          complaints.push(`${length}: ${JSON.stringify(damage)}`);
        for (const allowDamaged of [false, true]) {
          const error = await restoreArchiveTo(world, path, { targets: { a: target }, allowDamaged }).catch(
            (e: unknown) => e,
          );
          if (!(error instanceof DamageError) || existsSync(target)) complaints.push(`${length}: ${String(error)}`);
        }
      });
    }
    expect(complaints.slice(0, 10)).toEqual([]);
  });

  it('that was cut at any byte can be scanned up to the last whole extent', () => {
    const { hash, containerId } = decodeContainerHeader(bytes, path);
    const cut = join(base, 'cut');
    const heads = parts.filter((part) => part.name === 'extent head');
    const ends = heads.map((_, i) => heads[i + 1]?.from ?? parts.find((part) => part.name === 'chunk page')!.from);
    for (let length = CONTAINER_HEADER_BYTES; length < bytes.length; length++) {
      writeFileSync(cut, bytes.subarray(0, length));
      const fd = openSync(cut, 'r');
      const job = { fd, object: cut, hash, containerId, from: CONTAINER_HEADER_BYTES, to: length };
      const report = verifyExtents({ ...job, firstSequence: 0, firstFrame: 0, mode: 'full' }, 'native');
      closeSync(fd);
      const whole = ends.filter((end) => end <= length).length;
      expect(report.extents).toBe(whole);
      const rest = length - (whole === 0 ? CONTAINER_HEADER_BYTES : ends[whole - 1]!);
      expect(report.damage).toHaveLength(rest === 0 ? 0 : 1);
      const ids = scanIds(cut, containerId, hash).map((id) => Buffer.from(id).toString('hex'));
      expect(ids).toEqual(heads.filter((head) => head.to <= length).flatMap((head) => head.ids));
    }
    rmSync(cut);
  });

  it('that grew is damaged', async () => {
    for (const more of [1, 128, 4096]) {
      const grown = Buffer.concat([bytes, random.bytes(more)]);
      const { damage } = await whileHolding(path, grown, verify);
      expect(damage.map(({ kind, backups }) => [kind, [...backups]])).toEqual([['container', [path]]]);
    }
  });
});

describe('a restore of a damaged archive', () => {
  it('ends with damage and leaves nothing, or loses exactly what is damaged', async () => {
    const target = join(base, 'allowed');
    for (const part of parts.filter(({ name }) => name !== 'header' && name !== 'footer')) {
      if (hidesManifest(part)) continue;
      const lostIds = new Set(part.name === 'extent head' ? [] : part.ids);
      await whileFlipped(path, (part.from + part.to) >>> 1, 0xff, async () => {
        for (const { name, content } of ARCHIVE_DISKS) {
          const lost = lostRanges(manifest, chunks, name, lostIds);
          const { damaged } = await restoreArchiveTo(world, path, { targets: { [name]: target }, allowDamaged: true });
          expect(damaged.map(({ offsetBytes, lengthBytes }) => ({ offsetBytes, lengthBytes }))).toEqual(lost);
          const expected = Buffer.from(content);
          for (const range of lost) expected.fill(0, range.offsetBytes, range.offsetBytes + range.lengthBytes);
          expect(readFileSync(target).equals(expected)).toBe(true);
          rmSync(target);
          const strict = restoreArchiveTo(world, path, { targets: { [name]: target } });
          if (lost.length === 0) await strict;
          else await expect(strict).rejects.toBeInstanceOf(DamageError);
          expect(existsSync(target)).toBe(lost.length === 0);
          rmSync(target, { force: true });
        }
      });
    }
  });
});

describe('what is no archive of ours', () => {
  it('is refused by what it is: a pack, a newer archive, another file', async () => {
    const store = await makeTinyStore(join(base, 'store'));
    const datastore = await store.open();
    const options = { mode: 'full', portable: false, workers: 0 } as const;
    for (const packId of await datastore.listPackIds()) {
      const pack = join(store.root, 'packs', packId.slice(0, 2), `${packId}.vmar`);
      await expect(openArchive(pack)).rejects.toThrow(FailedError);
      await expect(verifyArchive(pack, options)).rejects.toThrow(FailedError);
    }
    await datastore.close();
    const newer = resealHeader(bytes, (header) => header.writeUInt16LE(2, 8));
    await whileHolding(path, newer, async () => {
      await expect(verify()).rejects.toThrow(/version 2/);
      await expect(openArchive(path)).rejects.toThrow(FailedError);
    });
    await whileHolding(path, random.bytes(5000), async () => {
      expect((await verify()).damage).toHaveLength(1);
      await expect(openArchive(path)).rejects.toThrow(DamageError);
    });
  });
});
