// SPDX-License-Identifier: MIT

import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { BugError, FailedError } from '#vmar/src/base/errors.js';
import { storeFailure, systemCode } from '#vmar/src/store/fs.js';
import { RealFs } from '#vmar/src/store/real-fs.js';
import { FaultFs } from './fault-fs.js';
import { RecordingFs } from './recording-fs.js';
import { storeFsContract } from './store-fs-contract.js';
import { temporaryDirectory } from './temporary-directory.js';

storeFsContract('real', () => new RealFs());
storeFsContract('recording', (root) => new RecordingFs(new RealFs(), root));
storeFsContract('fault, without one', () => new FaultFs(new RealFs(), { at: Number.POSITIVE_INFINITY, code: 'EIO' }));

describe('storeFailure', () => {
  it('names the path, says what to do, and keeps the system error code', () => {
    const error = storeFailure(Object.assign(new Error('x'), { code: 'ENOSPC' }), 'write', '/backup/packs/a');
    expect(error).toBeInstanceOf(FailedError);
    expect(error).toMatchObject({ code: 'no-space', object: '/backup/packs/a', exitStatus: 1 });
    expect(error.message).toBe('cannot write: no space is left on the device');
    expect(error.advice).toMatch(/^Free space/);
    expect(systemCode(error)).toBe('ENOSPC');
  });

  it('passes on what has no wording of its own', () => {
    const error = storeFailure(Object.assign(new Error('x'), { code: 'EXDEV' }), 'rename', '/a');
    expect(error).toMatchObject({ code: 'io-failed', message: 'cannot rename: EXDEV' });
    expect(storeFailure(error, 'again', '/b')).toBe(error);
  });
});

describe('a file of the store', () => {
  for (const direct of [false, true]) {
    it(`refuses to be written anywhere but at its end (direct: ${direct})`, async () => {
      const root = temporaryDirectory();
      const file = await new RealFs().createFile(join(root, 'f'), { direct });
      await file.write([Buffer.alloc(10)], 0);
      await expect(file.write([Buffer.alloc(10)], 0)).rejects.toBeInstanceOf(BugError);
      await expect(file.write([Buffer.alloc(10)], 11)).rejects.toBeInstanceOf(BugError);
      await file.close();
      await expect(file.write([Buffer.alloc(10)], 10)).rejects.toBeInstanceOf(BugError);
    });
  }
});
