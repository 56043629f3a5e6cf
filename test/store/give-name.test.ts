// SPDX-License-Identifier: MIT
// A finished file gets its name.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { storeFailure, systemCode } from '#vmar/src/store/fs.js';
import { giveName } from '#vmar/src/store/give-name.js';
import { RealFs } from '#vmar/src/store/real-fs.js';
import { temporaryDirectory } from './temporary-directory.js';

/** Makes the link, and says that there was one, as a client of a file server does whose question came twice. */
class ForgetfulFs extends RealFs {
  override async link(existing: string, path: string): Promise<void> {
    await super.link(existing, path);
    throw storeFailure({ code: 'EEXIST' }, 'link', path);
  }
}

function files(): { from: string; to: string } {
  const directory = temporaryDirectory();
  const from = join(directory, 'from');
  writeFileSync(from, 'content');
  return { from, to: join(directory, 'to') };
}

describe('giveName', () => {
  it('takes a link of its own for made, whatever the file server says', async () => {
    const { from, to } = files();
    await giveName(new ForgetfulFs(), from, to);
    expect(readFileSync(to, 'utf8')).toBe('content');
  });

  it('takes the name from no other file', async () => {
    const { from, to } = files();
    writeFileSync(to, 'other');
    await expect(giveName(new RealFs(), from, to)).rejects.toSatisfy((error) => systemCode(error) === 'EEXIST');
    expect(readFileSync(to, 'utf8')).toBe('other');
  });
});
