// SPDX-License-Identifier: MIT

import { EventEmitter } from 'node:events';
import { describe, expect, it } from 'vitest';
import { Interrupts } from '#vmar/src/cli/interrupts.js';
import type { Output } from '#vmar/src/cli/output.js';

class Ended extends Error {}

function fake() {
  const statuses: number[] = [];
  const process = Object.assign(new EventEmitter(), {
    exit(status: number): never {
      statuses.push(status);
      throw new Ended();
    },
  });
  const output = { live: undefined, error() {}, notice() {} } as unknown as Output;
  const interrupts = new Interrupts(process as unknown as NodeJS.Process, output, 'vmar');
  interrupts.listen();
  return { process, interrupts, statuses };
}

describe.each(['SIGINT', 'SIGTERM', 'SIGHUP'])('%s', (signal) => {
  it('ends the program where nothing needs cancelling', async () => {
    const { process, interrupts, statuses } = fake();
    expect(() => process.emit(signal)).toThrow(Ended);
    await interrupts.during(
      () => {},
      async () => {},
    );
    expect(() => process.emit(signal)).toThrow(Ended);
    expect(statuses).toEqual([130, 130]);
  });

  it('cancels at first, and ends the program the second time', async () => {
    const { process, interrupts, statuses } = fake();
    let cancelled = 0;
    await interrupts.during(
      () => {
        cancelled++;
      },
      async () => {
        process.emit(signal);
        expect(cancelled).toBe(1);
        expect(() => process.emit(signal)).toThrow(Ended);
      },
    );
    expect(cancelled).toBe(1);
    expect(statuses).toEqual([130]);
  });
});
