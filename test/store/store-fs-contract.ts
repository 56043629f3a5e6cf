// SPDX-License-Identifier: MIT
// What every StoreFs promises.

import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { FailedError } from '#vmar/src/base/errors.js';
import { type StoreFs, systemCode } from '#vmar/src/store/fs.js';
import { temporaryDirectory } from './temporary-directory.js';

const MIB = 1 << 20;

/** Bytes that differ everywhere. */
function pattern(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at + 4 <= length; at += 4) bytes.writeUInt32LE(Math.imul(at, 2654435761) >>> 0, at);
  return bytes;
}

async function codeOf(promise: Promise<unknown>): Promise<string | undefined> {
  return await promise.then(
    () => 'no failure',
    (error: unknown) => systemCode(error),
  );
}

export function storeFsContract(name: string, make: (root: string) => StoreFs): void {
  describe(`StoreFs: ${name}`, () => {
    for (const direct of [false, true]) {
      const kind = direct ? 'direct' : 'buffered';

      it(`writes ${kind} files of any length, to the byte`, async () => {
        const root = temporaryDirectory();
        const fs = make(root);
        for (const length of [0, 1, 4095, 4096, 4097, MIB - 1, MIB, MIB + 1, 11 * MIB + 4097]) {
          const path = join(root, `f${length}`);
          const bytes = pattern(length);
          const file = await fs.createFile(path, { direct });
          const cuts = [0, Math.min(length, 1000), Math.min(length, 3 * MIB + 5), length];
          for (const [i, from] of cuts.slice(0, -1).entries()) {
            const piece = bytes.subarray(from, cuts[i + 1]);
            const middle = piece.length >> 1;
            await file.write([piece.subarray(0, middle), piece.subarray(middle)], from);
          }
          await file.fsync();
          await file.close();
          expect(readFileSync(path).equals(bytes), `${length} bytes`).toBe(true);
        }
      });

      it(`lets ${kind} buffers be used again once a write resolves`, async () => {
        const root = temporaryDirectory();
        const file = await make(root).createFile(join(root, 'f'), { direct });
        const buffer = Buffer.alloc(2 * MIB + 100);
        for (let i = 0; i < 6; i++) {
          buffer.fill(i);
          await file.write([buffer], i * buffer.length);
        }
        buffer.fill(0xff);
        await file.fsync();
        await file.close();
        const found = readFileSync(join(root, 'f'));
        for (let i = 0; i < 6; i++) {
          expect(found.subarray(i * buffer.length, (i + 1) * buffer.length).every((byte) => byte === i)).toBe(true);
        }
      });

      it(`goes on with a ${kind} file after fsync`, async () => {
        const root = temporaryDirectory();
        const file = await make(root).createFile(join(root, 'f'), { direct });
        const bytes = pattern(3 * MIB + 8);
        const cut = MIB + 12;
        await file.write([bytes.subarray(0, cut)], 0);
        await file.fsync();
        expect(readFileSync(join(root, 'f')).equals(bytes.subarray(0, cut))).toBe(true);
        await file.write([bytes.subarray(cut)], cut);
        await file.fsync();
        await file.close();
        expect(readFileSync(join(root, 'f')).equals(bytes)).toBe(true);
      });

      it(`has all of a ${kind} file there after close, without fsync too`, async () => {
        const root = temporaryDirectory();
        const file = await make(root).createFile(join(root, 'f'), { direct });
        await file.write([pattern(5001)], 0);
        await file.close();
        await file.close();
        expect(readFileSync(join(root, 'f')).equals(pattern(5001))).toBe(true);
      });

      it(`never makes a ${kind} file where there is one`, async () => {
        const root = temporaryDirectory();
        writeFileSync(join(root, 'f'), 'mine');
        const failure = make(root).createFile(join(root, 'f'), { direct });
        await expect(failure).rejects.toMatchObject({ code: 'exists', object: join(root, 'f') });
        await expect(failure).rejects.toBeInstanceOf(FailedError);
        expect(readFileSync(join(root, 'f'), 'utf8')).toBe('mine');
      });
    }

    it('makes files 0600 and directories 0700, whatever the umask', async () => {
      const root = temporaryDirectory();
      const fs = make(root);
      for (const umask of [0o000, 0o022, 0o277]) {
        const before = process.umask(umask);
        try {
          await (await fs.createFile(join(root, `f${umask}`))).close();
          await (await fs.createFile(join(root, `d${umask}`), { direct: true })).close();
          await fs.mkdir(join(root, `dir${umask}`));
        } finally {
          process.umask(before);
        }
        expect(statSync(join(root, `f${umask}`)).mode & 0o7777).toBe(0o600);
        expect(statSync(join(root, `d${umask}`)).mode & 0o7777).toBe(0o600);
        expect(statSync(join(root, `dir${umask}`)).mode & 0o7777).toBe(0o700);
      }
    });

    it('renames over what is there, and links only where nothing is', async () => {
      const root = temporaryDirectory();
      const fs = make(root);
      for (const name_ of ['a', 'b', 'c']) {
        const file = await fs.createFile(join(root, name_));
        await file.write([Buffer.from(name_)], 0);
        await file.close();
      }
      await fs.rename(join(root, 'a'), join(root, 'b'));
      expect(readFileSync(join(root, 'b'), 'utf8')).toBe('a');
      expect(existsSync(join(root, 'a'))).toBe(false);
      expect(await codeOf(fs.link(join(root, 'b'), join(root, 'c')))).toBe('EEXIST');
      expect(readFileSync(join(root, 'c'), 'utf8')).toBe('c');
      await fs.link(join(root, 'b'), join(root, 'd'));
      await fs.unlink(join(root, 'b'));
      expect(readFileSync(join(root, 'd'), 'utf8')).toBe('a');
    });

    it('says what is missing, in the way or not empty', async () => {
      const root = temporaryDirectory();
      const fs = make(root);
      await fs.mkdir(join(root, 'dir'));
      await (await fs.createFile(join(root, 'dir', 'f'))).close();
      expect(await codeOf(fs.mkdir(join(root, 'dir')))).toBe('EEXIST');
      expect(await codeOf(fs.mkdir(join(root, 'no', 'dir')))).toBe('ENOENT');
      expect(await codeOf(fs.rmdir(join(root, 'dir')))).toBe('ENOTEMPTY');
      expect(await codeOf(fs.unlink(join(root, 'none')))).toBe('ENOENT');
      expect(await codeOf(fs.rmdir(join(root, 'none')))).toBe('ENOENT');
      expect(await codeOf(fs.rename(join(root, 'none'), join(root, 'x')))).toBe('ENOENT');
      expect(await codeOf(fs.fsyncDirectory(join(root, 'none')))).toBe('ENOENT');
      expect(await codeOf(fs.createFile(join(root, 'none', 'f')))).toBe('ENOENT');
      expect(readdirSync(root)).toEqual(['dir']);
    });

    it('syncs and removes directories', async () => {
      const root = temporaryDirectory();
      const fs = make(root);
      mkdirSync(join(root, 'dir'));
      await fs.fsyncDirectory(join(root, 'dir'));
      await fs.rmdir(join(root, 'dir'));
      expect(existsSync(join(root, 'dir'))).toBe(false);
    });
  });
}
