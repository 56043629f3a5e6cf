// SPDX-License-Identifier: MIT

import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { BugError, NotFoundError } from '#vmar/src/base/errors.js';
import { type BackupRef, formatBackupId } from '#vmar/src/store/backup-id.js';
import { manifestPath, sidecarPath } from '#vmar/src/store/layout.js';
import { listManifestNames } from '#vmar/src/store/manifest-tree.js';
import {
  commitManifest,
  forgetManifest,
  latestBackup,
  listManifests,
  readManifest,
} from '#vmar/src/store/manifests.js';
import { Session } from '#vmar/src/store/session.js';
import { readSidecar, writeSidecar } from '#vmar/src/store/sidecars.js';
import { Child } from './child.js';
import { backup, guest, manifestBytes, NIGHT, newStore, place } from './samples.js';
import { temporaryDirectory } from './temporary-directory.js';

let root: string;
let session: Session;

beforeEach(async () => {
  root = await newStore(join(temporaryDirectory(), 's'));
  session = await Session.begin(place(root), 'backup');
  onTestFinished(() => session.end());
});

async function commit(ref: BackupRef): Promise<BackupRef> {
  const { timeSeconds, ...own } = ref;
  return await commitManifest(place(root), session, own, timeSeconds, (time) =>
    manifestBytes({ ...ref, timeSeconds: time }),
  );
}

const LABELS = { labels: new Map([['a', 'b']]), notes: 'n', isProtected: true };

async function label(ref: BackupRef): Promise<void> {
  const { digest } = await readManifest(root, ref);
  await writeSidecar(place(root), session, ref, { manifestDigest: digest, ...LABELS }, 'blake3');
}

describe('commitManifest', () => {
  it('puts the manifest in its place, and nothing else', async () => {
    const ref = await commit(backup());
    expect(ref).toEqual(backup());
    expect(readFileSync(manifestPath(root, ref)).equals(manifestBytes(ref))).toBe(true);
    expect(readdirSync(session.tmpDir)).toEqual([]);
    const stored = await readManifest(root, ref);
    expect(stored).toMatchObject({ ref, path: manifestPath(root, ref), fileBytes: manifestBytes(ref).length });
    expect(stored.manifest).toMatchObject({ guestId: '100', timeSeconds: NIGHT, guestName: 'web' });
    expect(stored.digest).toHaveLength(32);
  });

  it('takes the next free second where the guest has a backup of that one', async () => {
    const refs = [await commit(backup()), await commit(backup()), await commit(backup(NIGHT + 1))];
    expect(refs.map((ref) => ref.timeSeconds)).toEqual([NIGHT, NIGHT + 1, NIGHT + 2]);
    for (const ref of refs) expect((await readManifest(root, ref)).manifest.timeSeconds).toBe(ref.timeSeconds);
    expect(await commit(backup(NIGHT, '101'))).toEqual(backup(NIGHT, '101'));
    expect(readdirSync(session.tmpDir)).toEqual([]);
  });

  it('takes a time before the latest, when the clock went back', async () => {
    await commit(backup());
    expect(await commit(backup(NIGHT - 3600))).toEqual(backup(NIGHT - 3600));
    expect(await latestBackup(root, guest())).toEqual(backup());
  });

  it('refuses bytes that are not a manifest of that backup', async () => {
    const wrong = commitManifest(place(root), session, guest(), NIGHT, () => manifestBytes(backup(NIGHT, '101')));
    await expect(wrong).rejects.toBeInstanceOf(BugError);
    const garbage = commitManifest(place(root), session, guest(), NIGHT, () => Buffer.alloc(100));
    await expect(garbage).rejects.toBeInstanceOf(BugError);
    expect(await latestBackup(root, guest())).toBeUndefined();
  });

  it('never loses one of many that several processes commit in the same second', async () => {
    const source = `
      import { commitManifest } from '#vmar/src/store/manifests.js';
      import { SILENT } from '#vmar/src/base/log.js';
      import { RealFs } from '#vmar/src/store/real-fs.js';
      import { Session } from '#vmar/src/store/session.js';
      import { decodeManifest, encodeManifest } from '#vmar/formats/vmar/manifest.js';
      const { manifest } = decodeManifest(Buffer.from('${Buffer.from(manifestBytes(backup())).toString('hex')}', 'hex'), '');
      const place = { root: ${JSON.stringify(root)}, fs: new RealFs(), log: SILENT };
      const session = await Session.begin(place, 'backup');
      const guest = { namespace: '', guestType: 'vm', guestId: '100' };
      const times = [];
      for (let i = 0; i < 15; i++) {
        const build = (timeSeconds) => encodeManifest({ ...manifest, timeSeconds });
        times.push((await commitManifest(place, session, guest, ${NIGHT}, build)).timeSeconds);
      }
      await session.end();
      console.log(times.join(' '));
    `;
    const children = [1, 2, 3].map(() => Child.start(source));
    const lines = await Promise.all(children.map((child) => child.line()));
    const times = lines.flatMap((line) => line.split(' ').map(Number)).sort((a, b) => a - b);
    expect(times).toEqual(Array.from({ length: 45 }, (_, i) => NIGHT + i));
    const { entries, damaged } = await listManifests(root);
    expect(entries.map((entry) => entry.ref.timeSeconds)).toEqual(times);
    expect(damaged).toEqual([]);
  });
});

describe('listManifests', () => {
  it('lists by namespace, guest and time', async () => {
    const refs = [
      backup(NIGHT, '9'),
      backup(NIGHT + 5, '9'),
      backup(NIGHT, '10'),
      backup(NIGHT, 'web', 'a'),
      backup(NIGHT, 'web', 'a/b'),
      backup(NIGHT, 'web', 'b'),
    ];
    for (const ref of [...refs].reverse()) await commit(ref);
    expect((await listManifests(root)).entries.map((entry) => entry.ref)).toEqual(refs);
    expect((await listManifestNames(root)).backups).toEqual(refs);
    expect((await listManifests(root, guest('9'))).entries.map((entry) => entry.ref)).toEqual(refs.slice(0, 2));
    expect((await listManifests(root, guest('web', 'a'))).entries.map((entry) => entry.ref)).toEqual([refs[3]]);
    expect(await listManifests(root, guest('none'))).toEqual({ entries: [], damaged: [], strange: [], lost: [] });
  });

  it('reports a damaged manifest and goes on', async () => {
    await commit(backup(NIGHT));
    await commit(backup(NIGHT + 1));
    const path = manifestPath(root, backup(NIGHT));
    const bytes = readFileSync(path);
    bytes[60]! ^= 1;
    writeFileSync(path, bytes);
    const { entries, damaged } = await listManifests(root);
    expect(entries.map((entry) => entry.ref.timeSeconds)).toEqual([NIGHT + 1]);
    expect(damaged).toEqual([
      { ref: backup(NIGHT), path, error: expect.objectContaining({ exitStatus: 3, object: path }) },
    ]);
    await expect(readManifest(root, backup(NIGHT))).rejects.toMatchObject({ exitStatus: 3 });
  });

  it('reports a manifest that lies under the name of another', async () => {
    const ref = await commit(backup(NIGHT));
    const to = manifestPath(root, backup(NIGHT, '101'));
    mkdirSync(dirname(to));
    renameSync(manifestPath(root, ref), to);
    const { damaged } = await listManifests(root);
    expect(damaged).toEqual([
      {
        ref: backup(NIGHT, '101'),
        path: to,
        error: expect.objectContaining({
          code: 'manifest-misplaced',
          expected: 'vm/101/2026-11-21T02:00:00Z',
          found: formatBackupId(ref),
        }),
      },
    ]);
  });

  it('tells what does not belong there', async () => {
    await commit(backup());
    const manifests = join(root, 'manifests');
    mkdirSync(join(manifests, 'vm', '.hidden'));
    mkdirSync(join(manifests, 'vm', '100', 'dir'));
    mkdirSync(join(manifests, '-bad'));
    writeFileSync(join(manifests, 'readme'), '');
    writeFileSync(join(manifests, 'vm', '100', 'x.manifest'), '');
    writeFileSync(join(manifests, 'vm', '100', '2026-11-20T02:00:00Z.sidecar'), '');
    const { entries, damaged, strange } = await listManifests(root);
    expect(entries).toHaveLength(1);
    expect(damaged).toEqual([]);
    expect(strange.map((path) => path.slice(manifests.length + 1)).sort()).toEqual([
      '-bad',
      'readme',
      'vm/.hidden',
      'vm/100/2026-11-20T02:00:00Z.sidecar',
      'vm/100/dir',
      'vm/100/x.manifest',
    ]);
  });
});

describe('forgetManifest', () => {
  it('removes the manifest, its sidecar, and sidecars that an earlier one left', async () => {
    const ref = await commit(backup());
    const other = await commit(backup(NIGHT + 1));
    await label(ref);
    await label(other);
    writeFileSync(sidecarPath(root, backup(NIGHT - 5)), 'left');
    await forgetManifest(place(root).fs, root, ref);
    expect(readdirSync(dirname(manifestPath(root, ref))).sort()).toEqual([
      '2026-11-21T02:00:01Z.manifest',
      '2026-11-21T02:00:01Z.sidecar',
    ]);
    await expect(readManifest(root, ref)).rejects.toMatchObject({
      code: 'no-such-backup',
      object: formatBackupId(ref),
    });
    await expect(forgetManifest(place(root).fs, root, ref)).rejects.toBeInstanceOf(NotFoundError);
  });
});

describe('sidecars', () => {
  it('are read as they were written, and replaced', async () => {
    const ref = await commit(backup());
    const { digest } = await readManifest(root, ref);
    expect(await readSidecar(root, ref, digest)).toBeUndefined();
    await label(ref);
    expect(await readSidecar(root, ref, digest)).toEqual({ manifestDigest: expect.anything(), ...LABELS });
    const changed = { manifestDigest: digest, labels: new Map(), notes: '', isProtected: false };
    await writeSidecar(place(root), session, ref, changed, 'blake3');
    expect(await readSidecar(root, ref, digest)).toMatchObject({ notes: '', isProtected: false });
    expect(readdirSync(session.tmpDir)).toEqual([]);
    expect(existsSync(sidecarPath(root, ref))).toBe(true);
  });

  it('of another manifest count as none, damaged ones as damage', async () => {
    const ref = await commit(backup());
    await label(ref);
    expect(await readSidecar(root, ref, Buffer.alloc(32))).toBeUndefined();
    writeFileSync(sidecarPath(root, ref), readFileSync(sidecarPath(root, ref)).subarray(1));
    await expect(readSidecar(root, ref, Buffer.alloc(32))).rejects.toMatchObject({ exitStatus: 3 });
  });
});
