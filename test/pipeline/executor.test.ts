// SPDX-License-Identifier: MIT
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { FailedError } from '#vmar/src/base/errors.js';
import { createExecutor } from '#vmar/src/pipeline/executor.js';
import { SlotPool } from '#vmar/src/pipeline/slots.js';
import { ThreadedExecutor } from '#vmar/src/pipeline/threaded-executor.js';
import { noise } from './bytes-fixture.js';
import { executorSuite } from './executor-suite.js';

executorSuite(0, 'blake3');
executorSuite(1, 'blake3');
executorSuite(2, 'blake3');
executorSuite(2, 'sha256');

const CLUSTER = 64 << 10;

function onePool(count = 4) {
  const pool = new SlotPool({ count, slotBytes: CLUSTER, clusterSizeBytes: CLUSTER });
  return { pool, options: { hash: 'blake3', level: 1, clusterSizeBytes: CLUSTER, pools: [pool] } as const };
}

describe('threaded executor', () => {
  it.each([
    ['throws', 'throw new Error("out of order")', /out of order/],
    ['exits', 'process.exit(7)', /exited with 7/],
  ])('rejects all calls once a worker %s', async (_, deed, message) => {
    const { pool, options } = onePool();
    const program = `import { parentPort } from 'node:worker_threads'; parentPort.on('message', () => { ${deed}; });`;
    const entry = new URL(`data:text/javascript,${encodeURIComponent(program)}`);
    const executor = new ThreadedExecutor({ ...options, workers: 2 }, entry);
    const calls = Array.from({ length: 4 }, async () => executor.hashSlot(await pool.acquire(), CLUSTER));
    for (const call of await Promise.allSettled(calls)) {
      expect(call.status).toBe('rejected');
      if (call.status === 'rejected') expect(call.reason).toMatchObject({ code: 'worker-died' });
    }
    const later = executor.hashSlot(pool.slot(0), CLUSTER);
    await expect(later).rejects.toThrow(FailedError);
    await expect(executor.hashSlot(pool.slot(1), CLUSTER)).rejects.toThrow(message);
    await executor.close();
  });

  it('rejects what is under way when closed, and touches no slot afterwards', async () => {
    const { pool, options } = onePool(64);
    const executor = createExecutor({ ...options, workers: 2 });
    const slots = Array.from({ length: 64 }, () => pool.tryAcquire()!);
    for (const slot of slots) slot.bytes.set(noise(CLUSTER));
    const calls = Promise.allSettled(slots.map((slot) => executor.hashSlot(slot, CLUSTER)));
    await executor.close();
    for (const slot of slots) slot.ids.fill(9);
    const rejected = (await calls).filter((call) => call.status === 'rejected');
    expect(rejected.length).toBeGreaterThan(0);
    for (const { reason } of rejected) expect(reason).toMatchObject({ code: 'executor-closed' });
    expect(slots.every((slot) => slot.ids.every((byte) => byte === 9))).toBe(true);
  });

  it('does not keep the process alive while idle, but does while it works', async () => {
    const module = (name: string) => JSON.stringify(import.meta.resolve(`#vmar/src/pipeline/${name}.js`));
    const program = `
      import { createExecutor } from ${module('executor')};
      import { SlotPool } from ${module('slots')};
      const pool = new SlotPool({ count: 1, slotBytes: 65536, clusterSizeBytes: 65536 });
      const options = { hash: 'blake3', level: 1, clusterSizeBytes: 65536, pools: [pool] };
      const executor = createExecutor({ ...options, workers: 2 });
      const slot = await pool.acquire();
      for (let round = 0; round < 3; round++) await executor.hashSlot(slot, 65536);
      console.log('flag', slot.flags[0]);
    `;
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program]);
    expect(stdout).toBe('flag 1\n');
  });

  it('refuses slots of a pool it was not told of', async () => {
    const { options } = onePool();
    const executor = createExecutor({ ...options, workers: 1 });
    await expect(executor.hashSlot(onePool().pool.tryAcquire()!, CLUSTER)).rejects.toMatchObject({ code: 'bug' });
    await executor.close();
  });
});
