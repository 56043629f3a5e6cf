// SPDX-License-Identifier: MIT

import { describe, expect, it } from 'vitest';
import { RequestList, type TrackedRequest } from '#vmar/src/block/request-list.js';
import { seededRandom } from '../base/random.js';

/** Lets promises settle. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

/** Begins a request and notes when it was granted. */
function ask(list: RequestList, log: string[], name: string, offset: number, length: number): Promise<TrackedRequest> {
  return Promise.resolve(list.begin(offset, length)).then((request) => {
    log.push(name);
    return request;
  });
}

describe('RequestList', () => {
  it('grants what is free at once, and neighbours do not overlap', () => {
    const list = new RequestList();
    const first = list.begin(0, 10);
    const second = list.begin(10, 10);
    expect(first).toMatchObject({ offsetBytes: 0, lengthBytes: 10 });
    expect(second).not.toBeInstanceOf(Promise);
    expect(list.size).toBe(2);
  });

  it('lets what overlaps wait for all that came earlier, those that wait included', async () => {
    const list = new RequestList();
    const log: string[] = [];
    const a = list.begin(0, 10) as TrackedRequest;
    const b = list.begin(20, 10) as TrackedRequest;
    const wide = ask(list, log, 'wide', 0, 30);
    const late = ask(list, log, 'late', 5, 1);
    a.end();
    await settle();
    expect(log).toEqual([]);
    b.end();
    await settle();
    expect(log).toEqual(['wide']);
    (await wide).end();
    (await late).end();
    expect(log).toEqual(['wide', 'late']);
    expect(list.size).toBe(0);
  });

  it('takes by tryBegin only what nobody holds or awaits', async () => {
    const list = new RequestList();
    const first = list.begin(0, 10) as TrackedRequest;
    const waiting = list.begin(5, 10);
    expect(list.tryBegin(12, 1)).toBeUndefined();
    expect(list.overlaps(15, 1)).toBe(false);
    expect(list.tryBegin(15, 1)).toMatchObject({ offsetBytes: 15 });
    first.end();
    (await waiting).end();
    expect(list.tryBegin(0, 15)).toMatchObject({ lengthBytes: 15 });
  });

  it('lets others wait without taking anything, for the requests of that moment', async () => {
    const list = new RequestList();
    expect(list.waitForOverlapping(0, 100)).toBeUndefined();
    const first = list.begin(0, 10) as TrackedRequest;
    let waited = false;
    const wait = list.waitForOverlapping(9, 1)?.then(() => {
      waited = true;
    });
    const later = list.begin(9, 1);
    expect(list.waitForOverlapping(10, 5)).toBeUndefined();
    await settle();
    expect(waited).toBe(false);
    first.end();
    await wait;
    expect(list.size).toBe(1);
    (await later).end();
  });

  it('has nothing to do with empty ranges', () => {
    const list = new RequestList();
    list.begin(0, 10);
    expect(list.begin(5, 0)).not.toBeInstanceOf(Promise);
    expect(list.waitForOverlapping(5, 0)).toBeUndefined();
    expect(list.tryBegin(5, 0)).toBeDefined();
  });

  it('tells when it has run empty, and an end counts once', async () => {
    const list = new RequestList();
    await list.drained();
    const requests = [list.begin(0, 1), list.begin(1, 1)] as TrackedRequest[];
    let drained = false;
    void list.drained().then(() => {
      drained = true;
    });
    requests[0]!.end();
    requests[0]!.end();
    await settle();
    expect([drained, list.size]).toEqual([false, 1]);
    requests[1]!.end();
    await settle();
    expect([drained, list.size]).toEqual([true, 0]);
  });

  it('does not starve a wide request under a stream of narrow ones', async () => {
    const list = new RequestList();
    const log: string[] = [];
    const narrow = [list.begin(0, 1), list.begin(1, 1)] as TrackedRequest[];
    const wide = ask(list, log, 'wide', 0, 100);
    const later: Promise<TrackedRequest>[] = [];
    for (let turn = 0; turn < 50; turn++) later.push(ask(list, log, 'narrow', turn, 1));
    for (const request of narrow) request.end();
    (await wide).end();
    for (const request of later) (await request).end();
    expect(log[0]).toBe('wide');
    expect(log.length).toBe(51);
  });

  it.each([1, 2, 3])(
    'never lets two run in one place, and runs all, in the order of their coming, seed %i',
    async (seed) => {
      const random = seededRandom(seed);
      const list = new RequestList();
      const busy = new Uint8Array(200);
      /** By byte: the numbers of the requests that touched it. */
      const order: number[][] = Array.from({ length: 200 }, () => []);
      let ran = 0;
      const run = async (number: number) => {
        const from = random.integer(0, 199);
        const length = random.integer(0, Math.min(40, 200 - from));
        const pause = random.integer(0, 3);
        const request = await list.begin(from, length);
        for (let at = from; at < from + length; at++) {
          expect(busy[at]).toBe(0);
          busy[at] = 1;
          order[at]!.push(number);
        }
        for (let turn = 0; turn < pause; turn++) await settle();
        busy.fill(0, from, from + length);
        request.end();
        ran++;
      };
      const runs: Promise<void>[] = [];
      for (let number = 0; number < 1000; number++) {
        runs.push(run(number));
        if (random.oneIn(5)) await settle();
      }
      await Promise.all(runs);
      expect(ran).toBe(1000);
      for (const numbers of order) expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
      expect(list.size).toBe(0);
    },
  );
});
