// SPDX-License-Identifier: MIT

import { describe, expect, it } from 'vitest';
import { BugError } from '#vmar/src/base/errors.js';
import { alignedOffset } from '#vmar/src/base/syscalls.js';
import { SlotPool } from '#vmar/src/pipeline/slots.js';

const KIB = 1024;

function pool(count: number, slotBytes = 128 * KIB): SlotPool {
  return new SlotPool({ count, slotBytes, clusterSizeBytes: 64 * KIB });
}

describe('SlotPool', () => {
  it('hands out every slot once, aligned, apart from each other and writable to the end', () => {
    const slots = pool(5, 100_000);
    const held = Array.from({ length: 5 }, () => slots.tryAcquire()!);
    expect(slots.tryAcquire()).toBeUndefined();
    expect(new Set(held.map((slot) => slot.index)).size).toBe(5);
    for (const slot of held) {
      expect(alignedOffset(slot.bytes, 4096)).toBe(0);
      expect(slot.bytes.byteLength).toBe(100_000);
      expect(slot.ids.byteLength).toBe(2 * 32);
      expect(slot.flags.byteLength).toBe(2);
      slot.bytes.fill(slot.index + 1);
      slot.ids.fill(slot.index + 11);
      slot.flags.fill(slot.index + 21);
      slot.memory.frame.fill(slot.index + 31);
      slot.memory.seal.fill(slot.index + 41);
    }
    for (const slot of held) {
      expect(slot.bytes.every((byte) => byte === slot.index + 1)).toBe(true);
      expect(slot.ids.every((byte) => byte === slot.index + 11)).toBe(true);
      expect(slot.flags.every((byte) => byte === slot.index + 21)).toBe(true);
      expect(slot.memory.frame.every((word) => word === slot.index + 31)).toBe(true);
      expect(slot.memory.seal.every((byte) => byte === slot.index + 41)).toBe(true);
    }
  });

  it('serves those who wait in their order, before anyone who comes later', async () => {
    const slots = pool(1);
    const first = await slots.acquire();
    const order: string[] = [];
    const waiting = ['a', 'b', 'c'].map(async (name) => {
      const slot = await slots.acquire();
      order.push(name);
      expect(slots.tryAcquire()).toBeUndefined();
      slot.release();
    });
    expect(slots.tryAcquire()).toBeUndefined();
    first.release();
    await Promise.all(waiting);
    expect(order).toEqual(['a', 'b', 'c']);
    expect(slots.freeCount).toBe(1);
  });

  it('frees a slot with its last reference', () => {
    const slots = pool(1);
    const slot = slots.tryAcquire()!;
    slot.retain();
    slot.retain();
    slot.release();
    slot.release();
    expect(slots.tryAcquire()).toBeUndefined();
    slot.release();
    expect(slots.tryAcquire()).toBe(slot);
  });

  it('refuses a reference too many or to a free slot', () => {
    const slot = pool(1).tryAcquire()!;
    slot.release();
    expect(() => slot.release()).toThrow(BugError);
    expect(() => slot.retain()).toThrow(BugError);
  });

  it('knows its slots by their bytes, whole or a leading part', () => {
    const slots = pool(3);
    const held = Array.from({ length: 3 }, () => slots.tryAcquire()!);
    for (const slot of held) {
      expect(slots.indexOf(slot.bytes)).toBe(slot.index);
      expect(slots.indexOf(slot.bytes.subarray(0, 5))).toBe(slot.index);
      expect(slots.slot(slot.index)).toBe(slot);
      expect(slots.indexOf(slot.bytes.subarray(1))).toBeUndefined();
      expect(slots.indexOf(slot.ids)).toBeUndefined();
    }
    expect(slots.indexOf(new Uint8Array(10))).toBeUndefined();
    expect(slots.indexOf(pool(1).tryAcquire()!.bytes)).toBeUndefined();
  });

  it('rejects those who wait, now and later, once it failed', async () => {
    const slots = pool(1);
    const slot = await slots.acquire();
    const waiting = slots.acquire();
    slots.fail(new Error('the disk is full'));
    await expect(waiting).rejects.toThrow('the disk is full');
    slot.release();
    await expect(slots.acquire()).rejects.toThrow('the disk is full');
    expect(slots.tryAcquire()).toBeUndefined();
  });
});
