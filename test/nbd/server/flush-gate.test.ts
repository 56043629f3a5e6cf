// SPDX-License-Identifier: MIT

import { expect, it } from 'vitest';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import { FlushGate } from '#vmar/src/nbd/server/flush-gate.js';

/** A device whose flushes end when they are told to. */
function gated() {
  const device = new MemoryDevice(1);
  const ends: { resolve: () => void; reject: (error: Error) => void }[] = [];
  device.flush = () => new Promise((resolve, reject) => ends.push({ resolve, reject }));
  return { gate: new FlushGate(device), ends };
}

const turn = () => new Promise(setImmediate);

it('a flush that is asked for while one runs is covered by one that begins later, together with others', async () => {
  const { gate, ends } = gated();
  const done: string[] = [];
  const ask = (name: string) => gate.flush().then(() => done.push(name));
  void ask('first');
  void ask('second');
  void ask('third');
  expect(ends).toHaveLength(1);
  ends[0]!.resolve();
  await turn();
  expect(done).toEqual(['first']);
  expect(ends).toHaveLength(2);
  void ask('fourth');
  ends[1]!.resolve();
  await turn();
  expect(done).toEqual(['first', 'second', 'third']);
  expect(ends).toHaveLength(3);
  ends[2]!.resolve();
  await turn();
  expect(done.at(-1)).toBe('fourth');
  void ask('fifth');
  expect(ends, 'none runs: it begins at once').toHaveLength(4);
});

it('all that share a flush hear of its failure, and the next one is tried', async () => {
  const { gate, ends } = gated();
  const first = gate.flush();
  const [second, third] = [gate.flush(), gate.flush()];
  ends[0]!.reject(new Error('one'));
  await expect(first).rejects.toThrow('one');
  await turn();
  ends[1]!.reject(new Error('two'));
  await expect(second).rejects.toThrow('two');
  await expect(third).rejects.toThrow('two');
  const fourth = gate.flush();
  ends[2]!.resolve();
  await fourth;
});
