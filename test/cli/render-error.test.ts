// SPDX-License-Identifier: MIT

import { describe, expect, it } from 'vitest';
import { BusyError, DamageError, FailedError, InterruptedError } from '#vmar/src/base/errors.js';
import { describeError, renderError } from '#vmar/src/cli/render-error.js';

describe('errors of ours', () => {
  it('keep every fact', () => {
    const error = new DamageError('frame-damaged', 'a frame does not match its seal', {
      ...{ object: '/s/p.vmar', offsetBytes: 4096, expected: 'a', found: 'b', advice: 'Restore another.' },
    });
    expect(describeError(error)).toEqual({
      ...{ code: 'frame-damaged', message: 'a frame does not match its seal', object: '/s/p.vmar', offset: 4096 },
      ...{ expected: 'a', found: 'b', advice: 'Restore another.', exit: 3 },
    });
    expect(renderError('vmar restore', describeError(error))).toBe(
      'vmar restore: /s/p.vmar at byte 4096: a frame does not match its seal (expected a, found b)\n  Restore another.',
    );
  });

  it('have no field for what is not known', () => {
    expect(describeError(new BusyError('guest-busy', 'busy'))).toEqual({
      code: 'guest-busy',
      message: 'busy',
      exit: 5,
    });
    expect(renderError('vmar', describeError(new InterruptedError()))).toBe('vmar: interrupted');
  });

  it('are two lines whatever they hold', () => {
    const error = new FailedError('x', 'a\nb', { object: 'c\nd', advice: 'e\nf' });
    expect(renderError('vmar', describeError(error)).split('\n')).toHaveLength(2);
  });
});

describe('other errors', () => {
  it('of the system are told as they are', () => {
    const error = Object.assign(new Error("ENOSPC: no space left on device, write '/x'"), { code: 'ENOSPC' });
    expect(describeError(error)).toMatchObject({
      code: 'system-error',
      exit: 1,
      advice: 'Make room on the file system.',
    });
  });

  it('are taken for bugs', () => {
    expect(describeError(new TypeError('x is not a function'))).toMatchObject({ code: 'bug', exit: 1 });
    expect(describeError('thrown text')).toMatchObject({ code: 'bug', message: 'thrown text', exit: 1 });
  });
});
