// SPDX-License-Identifier: MIT
// vmar copy: what arrives is the backup that it was, only what was lacking went, and what cannot go is named.

import { cpSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { decodeManifest } from '#vmar/formats/vmar/manifest.js';
import { ContainerReader } from '#vmar/src/store/container-reader.js';
import { lockGuest } from '#vmar/src/store/locks.js';
import { RealFs } from '#vmar/src/store/real-fs.js';
import { listPacks } from '#vmar/src/store/stored-packs.js';
import { Bench } from './bench.js';
import { CLUSTER, makeImage, mixedImage, noise, patch } from './images.js';

const bench = new Bench();
const A = bench.path('a');
const B = bench.path('b');
const NIGHTS = [0, 1, 2].map((night) => `vm/100/2024-03-0${night + 1}T02:00:00Z`);
const [FIRST, SECOND, LAST] = NIGHTS as [string, string, string];
const OTHER = 'team/vm/7/2024-03-01T02:00:00Z';
const at = (id: string): string => `${Date.parse(id.slice(id.lastIndexOf('/') + 1)) / 1000}`;
const from = (store: string, words: readonly string[]): string[] => ['--datastore', store, ...words];

/** Three nights of one guest in A, with labels and a note, and one of another. */
beforeAll(async () => {
  await bench.json(['init', A]);
  const image = makeImage(bench.path('d.raw'), 200 * CLUSTER + 77, [
    { at: 0, bytes: noise(40) },
    { at: 150 * CLUSTER, bytes: noise(20) },
  ]);
  makeImage(bench.path('empty.raw'), 5 * CLUSTER);
  for (const [night, id] of NIGHTS.entries()) {
    if (night > 0) patch(image, (100 + night) * CLUSTER, noise(2));
    if (night === 2) patch(image, 3 * CLUSTER, noise());
    cpSync(image, bench.path(`night${night}.raw`));
    const disks = ['--disk', 'd=d.raw', '--disk', 'e=empty.raw'];
    const conf = night === 0 ? ['--config', 'd.conf'] : [];
    if (night === 0) makeImage(bench.path('d.conf'), 10, [{ at: 0, bytes: Buffer.from('name: this') }]);
    await bench.json(from(A, ['backup', '100', ...disks, ...conf, '--time', at(id), '--label', `night=${night}`]));
  }
  mixedImage(bench.path('other.raw'));
  await bench.json(from(A, ['backup', 'team/vm/7', '--disk', 'x=other.raw', '--time', at(OTHER)]));
  await bench.json(from(A, ['protect', FIRST]));
  await bench.json(from(A, ['notes', SECOND, '--set', 'before the upgrade']));
}, 120_000);

async function freshB(...options: string[]): Promise<void> {
  rmSync(B, { recursive: true, force: true });
  await bench.json(['init', B, ...options]);
}

function manifest(store: string, id: string) {
  const path = join(store, 'manifests', `${id}.manifest`);
  return decodeManifest(readFileSync(path), path);
}

async function restored(store: string, id: string, disk = 'd'): Promise<Buffer> {
  const path = bench.path('restored.raw');
  rmSync(path, { force: true });
  await bench.json(from(store, ['restore', id, '--disk', `${disk}=${path}`]));
  return readFileSync(path);
}

/** Changes a byte in the first frame of the pack that the first night filled. */
async function damageData(store: string): Promise<string> {
  for (const id of (await listPacks(store)).ids) {
    const path = join(store, 'packs', id.slice(0, 2), `${id}.vmar`);
    const reader = ContainerReader.open(path);
    const isWanted = reader.header.content === 'data' && reader.footer.chunkCount > 30;
    const offset = reader.frame(0).offsetBytes + 50;
    const [byte = 0] = reader.readBytes(offset, 1);
    reader.close();
    if (!isWanted) continue;
    patch(path, offset, Uint8Array.of(byte ^ 1));
    return path;
  }
  throw new Error('no pack to damage');
}

describe('vmar copy', () => {
  it('brings all that the other side lacks, oldest first, and each backup is what it was', async () => {
    await freshB();
    const dry = await bench.json(from(A, ['copy', '--all', '--to', B, '--dry-run']));
    expect((await bench.json(from(B, ['list']))).backups).toEqual([]);
    expect((await listPacks(B)).ids).toEqual([]);
    const done = await bench.json(from(A, ['copy', '--all', '--to', B]));
    expect(done).toMatchObject({ dryRun: false, failed: [], from: A, to: B });
    expect(done.copied.map(({ backup }: { backup: string }) => backup)).toEqual([...NIGHTS, OTHER]);
    // A dry run tells chunk by chunk what goes; the second and third night bring what changed.
    expect(dry.copied.map((each: { new: number }) => each.new)).toEqual(
      done.copied.map((each: { new: number }) => each.new),
    );
    expect(done.copied[1].new).toBe(2 * CLUSTER);
    expect(done.copied[2].new).toBe(3 * CLUSTER);
    for (const [night, id] of NIGHTS.entries()) {
      expect((await restored(B, id)).equals(readFileSync(bench.path(`night${night}.raw`)))).toBe(true);
    }
    expect(await bench.json(from(B, ['verify']))).toMatchObject({ ok: true });

    const [was, is] = [manifest(A, FIRST).manifest, manifest(B, FIRST).manifest];
    for (const kept of ['guestName', 'source', 'consistency', 'configs', 'writer', 'startedMillis'] as const) {
      expect(is[kept]).toEqual(was[kept]);
    }
    expect(is.finishedMillis).toBe(was.finishedMillis);
    expect(is.disks.map(({ mapRoot }) => mapRoot)).toEqual(was.disks.map(({ mapRoot }) => mapRoot));
    // The chain is the destination's own.
    expect(NIGHTS.map((id) => manifest(B, id).manifest.sequence)).toEqual([1, 2, 3]);
    expect(manifest(B, SECOND).manifest.previousDigest).toEqual(manifest(B, FIRST).digest);
    expect(manifest(B, SECOND).manifest.disks[0]).toMatchObject({ newBytes: 2 * CLUSTER });
    expect(manifest(B, FIRST).manifest.storeUuid).not.toEqual(was.storeUuid);
    expect(await bench.json(from(B, ['show', FIRST]))).toMatchObject({ labels: { night: '0' }, protected: true });
    expect(await bench.json(from(B, ['show', SECOND]))).toMatchObject({ notes: 'before the upgrade' });

    const again = await bench.json(from(A, ['copy', '--all', '--to', B]));
    expect(again.copied.every(({ known }: { known: boolean }) => known)).toBe(true);
    expect(again).toMatchObject({ new: 0, stored: 0, failed: [] });
  });

  it('takes a part, from there to here, and then the rest between what is there', async () => {
    await freshB();
    const last = await bench.json(from(B, ['copy', '--from', A, '100']));
    expect(last.copied).toMatchObject([{ backup: LAST, known: false, rechunked: false }]);
    // Older than what is there: only what it had and the later one has not.
    const rest = await bench.json(from(B, ['copy', '--from', A, '--guest', '100']));
    expect(rest.copied).toMatchObject([
      { backup: FIRST, known: false, new: CLUSTER },
      { backup: SECOND, known: false, new: CLUSTER },
      { backup: LAST, known: true },
    ]);
    for (const [night, id] of NIGHTS.entries()) {
      expect((await restored(B, id)).equals(readFileSync(bench.path(`night${night}.raw`)))).toBe(true);
    }
    expect(await bench.json(from(B, ['verify']))).toMatchObject({ ok: true });
  });

  it('goes on with the next backup of the guest made there', async () => {
    await freshB();
    await bench.json(from(A, ['copy', LAST, '--to', B]));
    const words = ['backup', '100', '--disk', 'd=night2.raw', '--disk', 'e=empty.raw', '--time', '1711929600'];
    const { disks } = await bench.json(from(B, words));
    expect(disks[0]).toMatchObject({ new: 0, unchanged: expect.any(Number) });
    expect(disks[0].unchanged).toBeGreaterThan(40 * CLUSTER);
    expect(manifest(B, 'vm/100/2024-04-01T00:00:00Z').manifest.sequence).toBe(2);
  });

  it('chunks anew where clusters or hashes differ, says so, and knows the backup again', async () => {
    await freshB('--cluster-size', '128KiB', '--hash', 'sha256');
    const { json, stderr, status } = await bench.run(['--json', ...from(A, ['copy', '--guest', '100', '--to', B])]);
    expect(status).toBe(0);
    expect(stderr).toContain('chunked anew');
    expect(json().copied).toMatchObject(NIGHTS.map((backup) => ({ backup, known: false, rechunked: true })));
    expect((await restored(B, SECOND)).equals(readFileSync(bench.path('night1.raw')))).toBe(true);
    expect(manifest(B, FIRST).manifest.finishedMillis).toBe(manifest(A, FIRST).manifest.finishedMillis);
    expect(await bench.json(from(B, ['show', FIRST]))).toMatchObject({ labels: { night: '0' }, protected: true });
    expect((await bench.json(from(A, ['copy', SECOND, '--to', B]))).copied).toMatchObject([{ known: true }]);
    // And back again it is the backup that it was.
    expect((await bench.json(from(B, ['copy', SECOND, '--to', A]))).copied).toMatchObject([{ known: true }]);
  });

  it('refuses another backup of the same id, copies the others, and changes nothing', async () => {
    await freshB();
    makeImage(bench.path('stranger.raw'), 3 * CLUSTER, [{ at: 0, bytes: noise() }]);
    await bench.json(from(B, ['backup', '100', '--disk', 'd=stranger.raw', '--time', at(SECOND)]));
    const before = manifest(B, SECOND).digest;
    expect(await bench.error(from(A, ['copy', SECOND, '--to', B]))).toMatchObject({ exit: 1, code: 'other-backup' });
    const { status, json } = await bench.run(['--json', ...from(A, ['copy', '--guest', '100', '--to', B])]);
    expect(status).toBe(1);
    expect(json().failed).toMatchObject([{ backup: SECOND, error: { code: 'other-backup' } }]);
    expect(json().copied).toMatchObject([{ backup: FIRST }, { backup: LAST }]);
    expect(manifest(B, SECOND).digest).toEqual(before);
  });

  it('fails only the backups that damage of the source touches, names it, and exits with 3', async () => {
    const damaged = bench.path('damaged');
    cpSync(A, damaged, { recursive: true });
    const pack = await damageData(damaged);
    await freshB();
    const { status, json } = await bench.run(['--json', ...from(damaged, ['copy', '--all', '--to', B])]);
    expect(status).toBe(3);
    expect(json().copied).toMatchObject([{ backup: OTHER }]);
    expect(json().failed.map(({ backup }: { backup: string }) => backup)).toEqual(NIGHTS);
    expect(json().failed[0].error).toMatchObject({ code: 'frame-damaged', object: pack, exit: 3 });
    expect(json().failed[0].error.message).toMatch(/disk d at byte \d+ cannot be copied/);
    expect((await bench.json(from(B, ['list']))).backups).toHaveLength(1);
    expect(await bench.json(from(B, ['verify']))).toMatchObject({ ok: true });

    // The sound source gives what the damaged one could not.
    await bench.json(from(A, ['copy', '--all', '--to', B]));
    expect((await restored(B, FIRST)).equals(readFileSync(bench.path('night0.raw')))).toBe(true);
  });

  it('believes no page that is there without what lies below it', async () => {
    await freshB();
    await bench.json(from(A, ['copy', LAST, '--to', B]));
    await bench.json(from(B, ['forget', LAST]));
    // As a copy that was cut off may leave it: the pages of the maps, and none of the data.
    for (const id of (await listPacks(B)).ids) {
      const path = join(B, 'packs', id.slice(0, 2), `${id}.vmar`);
      const reader = ContainerReader.open(path);
      const { content } = reader.header;
      reader.close();
      if (content === 'data') rmSync(path);
    }
    await bench.json(from(A, ['copy', LAST, '--to', B]));
    expect((await restored(B, LAST)).equals(readFileSync(bench.path('night2.raw')))).toBe(true);
    expect(await bench.json(from(B, ['verify']))).toMatchObject({ ok: true });
  });

  it('brings once more what is known to be damaged there, which heals what is there already', async () => {
    await freshB();
    await bench.json(from(A, ['copy', FIRST, '--to', B]));
    await damageData(B);
    expect((await bench.run(from(B, ['verify']))).status).toBe(3);
    expect((await bench.run(from(B, ['restore', FIRST, '--to', bench.path('lost')]))).status).toBe(3);
    await bench.json(from(A, ['copy', LAST, '--to', B]));
    expect((await restored(B, LAST)).equals(readFileSync(bench.path('night2.raw')))).toBe(true);
    // The second has all that the first has, so with both copied that one is whole again.
    await bench.json(from(A, ['copy', SECOND, '--to', B]));
    expect((await restored(B, FIRST)).equals(readFileSync(bench.path('night0.raw')))).toBe(true);
    const { damage } = (await bench.run(['--json', ...from(B, ['verify'])])).json();
    expect(damage.flatMap(({ backups }: { backups: string[] }) => backups)).toEqual([]);
  });

  it('completes the labels that a copy which was cut off had not come to', async () => {
    await freshB();
    await bench.json(from(A, ['copy', FIRST, '--to', B]));
    rmSync(join(B, 'manifests', `${FIRST}.sidecar`));
    expect((await bench.json(from(A, ['copy', FIRST, '--to', B]))).copied).toMatchObject([{ known: true }]);
    expect(await bench.json(from(B, ['show', FIRST]))).toMatchObject({ labels: { night: '0' }, protected: true });
    // What was changed there stays as it was changed.
    await bench.json(from(B, ['protect', '--off', FIRST]));
    await bench.json(from(A, ['copy', FIRST, '--to', B]));
    expect(await bench.json(from(B, ['show', FIRST]))).toMatchObject({ protected: false });
  });

  it('passes over a guest that is busy there, and waits where it is told to', async () => {
    await freshB();
    const lock = await lockGuest(new RealFs(), B, { namespace: '', guestType: 'vm', guestId: '100' });
    const { status, json } = await bench.run(['--json', ...from(A, ['copy', FIRST, OTHER, '--to', B])]);
    expect(status).toBe(5);
    expect(json().failed).toMatchObject([{ backup: FIRST, error: { code: 'guest-busy' } }]);
    expect(json().copied).toMatchObject([{ backup: OTHER }]);
    const waiting = bench.json(from(A, ['copy', FIRST, '--to', B, '--wait=60']));
    setTimeout(() => void lock.release(), 1000);
    expect((await waiting).copied).toMatchObject([{ backup: FIRST, known: false }]);
  });

  it('refuses what makes no sense', async () => {
    const wrong = async (...words: string[]) => await bench.error(from(A, ['copy', ...words]));
    expect(await wrong('100')).toMatchObject({ exit: 2, code: 'which-datastore' });
    expect(await wrong('100', '--to', B, '--from', B)).toMatchObject({ exit: 2, code: 'which-datastore' });
    expect(await wrong('--to', B)).toMatchObject({ exit: 2, code: 'which-backups' });
    expect(await wrong('100', '--all', '--to', B)).toMatchObject({ exit: 2, code: 'which-backups' });
    expect(await wrong('100', '--to', A)).toMatchObject({ exit: 2, code: 'same-datastore' });
    expect(await wrong('100', '--to', bench.path('nowhere'))).toMatchObject({ exit: 1, code: 'not-a-datastore' });
    expect(await wrong('./x.vmar', '--to', B)).toMatchObject({ exit: 2, code: 'not-in-datastore' });
    expect(await wrong('999', '--to', B)).toMatchObject({ exit: 4, code: 'no-such-backup' });
    expect(await wrong('--guest', '999', '--to', B)).toMatchObject({ exit: 4, code: 'no-such-guest' });
  });
});
