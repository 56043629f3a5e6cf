// SPDX-License-Identifier: MIT

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readSmallFile } from '#vmar/src/store/small-file.js';
import { seededRandom } from '../base/random.js';
import { temporaryDirectory } from './temporary-directory.js';

describe('readSmallFile', () => {
  it.each([0, 1, 16383, 16384, 16385, 100_000])(
    'reads %d bytes, and refuses them where that is too many',
    async (length) => {
      const path = join(temporaryDirectory(), 'file');
      const bytes = seededRandom(length).bytes(length);
      writeFileSync(path, bytes);
      const first = await readSmallFile(path, 100_000);
      expect(first.equals(bytes)).toBe(true);
      if (length > 0) {
        await expect(readSmallFile(path, length - 1)).rejects.toMatchObject({
          code: 'file-too-large',
          object: path,
          found: `${length} bytes`,
        });
      }
      // What was read before stays as it is.
      writeFileSync(path, Buffer.alloc(length, 1));
      await readSmallFile(path, 100_000);
      expect(first.equals(bytes)).toBe(true);
    },
  );

  it('tells what is not there from what cannot be read', async () => {
    const directory = temporaryDirectory();
    await expect(readSmallFile(join(directory, 'none'), 10)).rejects.toMatchObject({ code: 'no-such-file' });
    await expect(readSmallFile(directory, 10)).rejects.toMatchObject({ exitStatus: 3, object: directory });
  });
});
