// SPDX-License-Identifier: MIT

import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { RealFs } from '#vmar/src/store/real-fs.js';
import { liveSessions, Session } from '#vmar/src/store/session.js';
import { Child } from './child.js';
import { FaultFs } from './fault-fs.js';
import { KeptLog, newStore, place, sampleId } from './samples.js';
import { temporaryDirectory } from './temporary-directory.js';

function sessionSource(root: string): string {
  return `
    import { writeFileSync, mkdirSync } from 'node:fs';
    import { join } from 'node:path';
    import { SILENT } from '#vmar/src/base/log.js';
    import { RealFs } from '#vmar/src/store/real-fs.js';
    import { Session } from '#vmar/src/store/session.js';
    const session = await Session.begin({ root: ${JSON.stringify(root)}, fs: new RealFs(), log: SILENT }, 'backup');
    mkdirSync(join(session.tmpDir, 'index'));
    writeFileSync(join(session.tmpDir, 'index', 'data'), 'x');
    writeFileSync(join(session.tmpDir, 'pack'), 'x');
    console.log(session.id);
    process.stdin.once('data', async () => { await session.end(); console.log('ended'); process.exit(0); });
  `;
}

const left = (root: string) => [...readdirSync(join(root, 'locks')), ...readdirSync(join(root, 'tmp'))];

describe('Session', () => {
  it('has a lock file and a directory while it lives, and nothing after', async () => {
    const root = await newStore(join(temporaryDirectory(), 's'));
    const session = await Session.begin(place(root), 'backup');
    expect(left(root)).toEqual([`session-${session.id}.lock`, session.id]);
    expect(session.tmpDir).toBe(join(root, 'tmp', session.id));
    writeFileSync(session.temporaryPath('pack'), 'x');
    expect(session.temporaryPath('pack')).not.toBe(session.temporaryPath('pack'));
    await session.end();
    await session.end();
    expect(left(root)).toEqual([]);
  });

  it('lives beside others', async () => {
    const root = await newStore(join(temporaryDirectory(), 's'));
    const sessions = await Promise.all(
      (['backup', 'read', 'maintenance'] as const).map((k) => Session.begin(place(root), k)),
    );
    expect(new Set(left(root)).size).toBe(6);
    const [first, ...others] = sessions;
    expect((await liveSessions(root, first!.id)).sort()).toEqual(others.map((session) => session.id).sort());
    for (const session of sessions) await session.end();
    expect(left(root)).toEqual([]);
  });

  it('leaves a living process of another session alone, and sweeps a dead one', async () => {
    const root = await newStore(join(temporaryDirectory(), 's'));
    const other = Child.start(sessionSource(root));
    const otherId = await other.line();
    const first = await Session.begin(place(root), 'read');
    expect(await liveSessions(root, first.id)).toEqual([otherId]);
    expect(existsSync(join(root, 'tmp', otherId, 'index', 'data'))).toBe(true);
    await other.kill();
    expect(await liveSessions(root, first.id)).toEqual([]);
    await first.end();
    expect(left(root).sort()).toEqual([otherId, `session-${otherId}.lock`].sort());
    const second = await Session.begin(place(root), 'backup');
    expect(left(root)).toEqual([`session-${second.id}.lock`, second.id]);
    await second.end();
  });

  it('sweeps directories whose lock files are gone, and nothing else in tmp/', async () => {
    const root = await newStore(join(temporaryDirectory(), 's'));
    mkdirSync(join(root, 'tmp', sampleId('dead')));
    writeFileSync(join(root, 'tmp', 'note.txt'), 'mine');
    writeFileSync(join(root, 'locks', 'guest-vm+100.lock'), '');
    const outside = temporaryDirectory();
    writeFileSync(join(outside, 'precious'), '');
    symlinkSync(outside, join(root, 'tmp', sampleId('dead'), 'link'));
    const session = await Session.begin(place(root), 'backup');
    await session.end();
    expect(left(root)).toEqual(['guest-vm+100.lock', 'note.txt']);
    expect(readdirSync(outside)).toEqual(['precious']);
  });

  it('begins though a dead one cannot be swept, and says so', async () => {
    const root = await newStore(join(temporaryDirectory(), 's'));
    mkdirSync(join(root, 'tmp', sampleId('dead')));
    const log = new KeptLog();
    const fs = new FaultFs(new RealFs(), { at: 4, code: 'EIO' });
    const session = await Session.begin(place(root, fs, log), 'backup');
    expect(fs.seen[3]).toMatch(/^rmdir/);
    expect(log.warnings).toEqual([expect.stringContaining(sampleId('dead'))]);
    await session.end();
  });

  it('fails when it cannot be made, and leaves nothing', async () => {
    const root = await newStore(join(temporaryDirectory(), 's'));
    for (const at of [1, 3]) {
      const fs = new FaultFs(new RealFs(), { at, code: 'ENOSPC' });
      await expect(Session.begin(place(root, fs), 'backup')).rejects.toMatchObject({ code: 'no-space' });
      expect(left(root), fs.seen[at - 1]).toEqual([]);
    }
  });

  it('reads on where nothing can be written, with one warning', async () => {
    for (const code of ['EROFS', 'EACCES', 'ENOSPC'] as const) {
      const root = await newStore(join(temporaryDirectory(), 's'));
      const log = new KeptLog();
      const session = await Session.begin(
        place(root, new FaultFs(new RealFs(), { at: 1, code, lasting: true }), log),
        'read',
      );
      expect(log.warnings).toHaveLength(1);
      expect(session.hasTmpDir).toBe(false);
      expect(() => session.tmpDir).toThrow(expect.objectContaining({ code: 'read-only' }));
      await session.end();
      expect(left(root)).toEqual([]);
      const backup = Session.begin(place(root, new FaultFs(new RealFs(), { at: 1, code, lasting: true })), 'backup');
      await expect(backup).rejects.toMatchObject({ exitStatus: 1 });
    }
  });

  it('keeps its lock where only the directory cannot be made', async () => {
    const root = await newStore(join(temporaryDirectory(), 's'));
    const log = new KeptLog();
    const session = await Session.begin(place(root, new FaultFs(new RealFs(), { at: 3, code: 'ENOSPC' }), log), 'read');
    expect(left(root)).toEqual([`session-${session.id}.lock`]);
    expect(session.hasTmpDir).toBe(false);
    await session.end();
    expect(left(root)).toEqual([]);
  });

  it('makes locks/ and tmp/ anew where a copy of the datastore lost them', async () => {
    const root = await newStore(join(temporaryDirectory(), 's'));
    rmSync(join(root, 'locks'), { recursive: true });
    rmSync(join(root, 'tmp'), { recursive: true });
    const session = await Session.begin(place(root), 'backup');
    await session.end();
    expect(left(root)).toEqual([]);
  });

  it('reads a datastore that its user may not write', async () => {
    if (process.getuid?.() === 0) {
      console.warn('not tested as root: a read session in a directory without write permission');
      return;
    }
    const root = await newStore(join(temporaryDirectory(), 's'));
    for (const name of ['locks', 'tmp']) chmodSync(join(root, name), 0o500);
    const log = new KeptLog();
    const session = await Session.begin(place(root, new RealFs(), log), 'read');
    expect(log.warnings).toHaveLength(1);
    await session.end();
    for (const name of ['locks', 'tmp']) chmodSync(join(root, name), 0o700);
  });

  it('outlives the sweeps of many that begin and end at once', async () => {
    const root = await newStore(join(temporaryDirectory(), 's'));
    const source = `
      import { existsSync } from 'node:fs';
      import { SILENT } from '#vmar/src/base/log.js';
      import { RealFs } from '#vmar/src/store/real-fs.js';
      import { Session } from '#vmar/src/store/session.js';
      const place = { root: ${JSON.stringify(root)}, fs: new RealFs(), log: SILENT };
      let lost = 0;
      for (let i = 0; i < 60; i++) {
        const session = await Session.begin(place, 'backup');
        await new Promise((resolve) => setImmediate(resolve));
        if (!existsSync(session.tmpDir)) lost++;
        await session.end();
      }
      console.log(lost);
    `;
    const children = [1, 2, 3].map(() => Child.start(source));
    expect(await Promise.all(children.map((child) => child.line()))).toEqual(['0', '0', '0']);
    expect(await Promise.all(children.map((child) => child.end()))).toEqual([0, 0, 0]);
    expect(left(root)).toEqual([]);
  });
});
