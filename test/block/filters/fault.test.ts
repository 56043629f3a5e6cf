// SPDX-License-Identifier: MIT

import { describe, expect, it } from 'vitest';
import { ManualClock } from '#vmar/src/base/clock.js';
import { BlockNode } from '#vmar/src/block/block-node.js';
import { FaultFilter, type FaultOptions } from '#vmar/src/block/filters/fault.js';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import { deviceContract, readAll } from '../device-contract.js';

deviceContract('FaultFilter without rules', async (lengthBytes) => make(lengthBytes));

function make(lengthBytes: number, options: FaultOptions = {}): FaultFilter {
  return new FaultFilter(new BlockNode(new MemoryDevice(lengthBytes, { name: 'disk' })), options);
}

const one = new Uint8Array([1]);

describe('a rule', () => {
  it('hits as many as it says after as many as it says, of its operation, in its range', async () => {
    const device = make(1000);
    const range = { offsetBytes: 100, lengthBytes: 100 };
    const fault = device.add({ operation: 'write', range, after: 1, times: 2, effect: { kind: 'error' } });
    const results: string[] = [];
    for (const at of [99, 100, 199, 200, 150, 150]) {
      await device.write(at, one).then(
        () => results.push('ok'),
        (error) => results.push(error.code),
      );
    }
    expect(results).toEqual(['ok', 'ok', 'injected-fault', 'ok', 'injected-fault', 'ok']);
    expect(fault).toMatchObject({ matches: 4, hits: 2 });
    await device.read(100, Buffer.alloc(100));
    await device.writeZeroes(100, 100);
  });

  it('may fail every operation, until it is removed', async () => {
    const device = make(10);
    const fault = device.add({ effect: { kind: 'error', error: new Error('mine') } });
    const calls = [
      () => device.read(0, new Uint8Array(1)),
      () => device.write(0, one),
      () => device.writeZeroes(0, 1),
      () => device.discard(0, 1),
      () => device.flush(),
      () => device.blockStatus(0, 1),
    ];
    for (const call of calls) await expect(call()).rejects.toThrow('mine');
    fault.remove();
    for (const call of calls) await call();
    device.add({ operation: ['flush', 'read'], effect: { kind: 'error' } });
    await expect(device.flush()).rejects.toMatchObject({ code: 'injected-fault', object: 'disk' });
    device.clear();
    await device.flush();
  });

  it('fails a write before, midway or after it was done', async () => {
    const device = make(8);
    for (const [when, found] of [
      ['before', '0000000000000000'],
      ['midway', '0101010100000000'],
      ['after', '0101010101010101'],
    ] as const) {
      await device.writeZeroes(0, 8);
      const fault = device.add({ operation: 'write', effect: { kind: 'error', when } });
      await expect(device.write(0, Buffer.alloc(8, 1))).rejects.toMatchObject({ code: 'injected-fault' });
      fault.remove();
      expect((await readAll(device)).toString('hex')).toBe(found);
    }
  });

  it('corrupts one byte of what is read, or of what is written, and not the caller’s', async () => {
    const device = make(8);
    const range = { offsetBytes: 3, lengthBytes: 2 };
    device.add({ operation: 'read', range, times: 1, effect: { kind: 'corrupt' } });
    expect((await readAll(device)).toString('hex')).toBe('000000ff00000000');
    expect((await readAll(device)).toString('hex')).toBe('0000000000000000');
    device.add({ operation: 'write', range, effect: { kind: 'corrupt' } });
    const bytes = Buffer.alloc(4, 1);
    await device.write(4, bytes);
    expect((await readAll(device)).toString('hex')).toBe('00000000fe010101');
    expect(bytes.toString('hex')).toBe('01010101');
  });

  it('delays by the clock that was handed in, or until it is told', async () => {
    const clock = new ManualClock();
    const device = make(8, { clock, rules: [{ operation: 'flush', effect: { kind: 'delay', millis: 50 } }] });
    let done = false;
    const flushed = device.flush().then(() => {
      done = true;
    });
    clock.advance(49);
    await Promise.resolve();
    expect(done).toBe(false);
    clock.advance(1);
    await flushed;
    let release = () => {};
    const until = new Promise<void>((resolve) => {
      release = resolve;
    });
    device.add({ operation: 'read', effect: { kind: 'hold', until } });
    const read = device.read(0, new Uint8Array(1)).then(() => 'read');
    expect(await Promise.race([read, new Promise((resolve) => setImmediate(resolve, 'held'))])).toBe('held');
    release();
    expect(await read).toBe('read');
  });

  it('that cannot be is refused', () => {
    expect(() => make(8, { rules: [{ operation: 'flush', effect: { kind: 'corrupt' } }] })).toThrow(/read, write/);
    expect(() => make(8, { rules: [{ effect: { kind: 'error', when: 'midway' } }] })).toThrow(/write-zeroes/);
  });
});
