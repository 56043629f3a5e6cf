// SPDX-License-Identifier: MIT

import { describe, expect, it } from 'vitest';
import { ALL_PERMISSIONS, claim, claimsOf, type Permission } from '#vmar/src/block/claims.js';
import { NullDevice } from '#vmar/src/block/null-device.js';

const device = () => new NullDevice(100, { name: 'disk-1' });

describe('claims', () => {
  it('exclude a second writer, and name both', () => {
    const disk = device();
    claim(disk, 'mirror of scsi0', ['write'], ['consistent-read']);
    expect(() => claim(disk, 'restore', ['write'], ALL_PERMISSIONS)).toThrow(
      expect.objectContaining({
        code: 'device-claimed',
        exitStatus: 5,
        object: 'disk-1',
        message: 'restore wants it for write, which mirror of scsi0 does not allow',
      }),
    );
  });

  it('exclude whom the newcomer does not tolerate', () => {
    const disk = device();
    claim(disk, 'guest', ['write'], ALL_PERMISSIONS);
    expect(() => claim(disk, 'backup', ['consistent-read'], ['consistent-read'])).toThrow(
      /guest uses it for write, which backup does not allow/,
    );
    expect(claimsOf(disk).map(({ who }) => who)).toEqual(['guest']);
  });

  it('let readers read together, and fill while a reader reads', () => {
    const disk = device();
    const shares: Permission[] = ['consistent-read', 'write-unchanged'];
    claim(disk, 'a', ['consistent-read'], shares);
    claim(disk, 'b', ['consistent-read'], shares);
    claim(disk, 'stream', ['consistent-read', 'write-unchanged'], shares);
    expect(claimsOf(disk).length).toBe(3);
  });

  it('end when they are released, once', () => {
    const disk = device();
    const first = claim(disk, 'a', ['write'], []);
    first.release();
    const second = claim(disk, 'b', ['write'], []);
    first.release();
    expect(claimsOf(disk)).toEqual([second]);
    expect(() => claim(disk, 'c', [], [])).toThrow(/b uses it for write/);
  });

  it('are of one device each, and a read-only one is not to be written', () => {
    claim(device(), 'a', ['write'], []);
    claim(device(), 'b', ['write'], []);
    const readOnly = new NullDevice(1, { readOnly: true });
    expect(() => claim(readOnly, 'a', ['consistent-read', 'write'], [])).toThrow(/reading only/);
    claim(readOnly, 'a', ['consistent-read'], []);
  });
});
