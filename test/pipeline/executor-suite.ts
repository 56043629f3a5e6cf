// SPDX-License-Identifier: MIT
// What every executor must do with slots, however many threads it has.

import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { decompress } from 'zstd-napi';
import { chunkContext, createHasher, type HashName, sealer } from '#vmar/formats/vmar/hash.js';
import { BugError, FailedError } from '#vmar/src/base/errors.js';
import { createExecutor, type Executor, type Piece } from '#vmar/src/pipeline/executor.js';
import { type Slot, SlotPool } from '#vmar/src/pipeline/slots.js';
import { noise, text } from './bytes-fixture.js';

const CLUSTER = 64 << 10;
const SLOT = 256 << 10;
const ZERO_ID = Buffer.alloc(32);

export function executorSuite(workers: number, hash: HashName): void {
  describe(`executor with ${workers} workers, ${hash}`, () => {
    let input: SlotPool;
    let output: SlotPool;
    let executor: Executor;
    beforeAll(() => {
      input = new SlotPool({ count: 8, slotBytes: SLOT, clusterSizeBytes: CLUSTER });
      output = new SlotPool({ count: 4, slotBytes: 4 * SLOT, clusterSizeBytes: CLUSTER });
      executor = createExecutor({ workers, hash, level: 1, clusterSizeBytes: CLUSTER, pools: [input, output] });
    });
    afterAll(() => executor.close());

    async function filled(...parts: Buffer[]): Promise<Slot> {
      const slot = await input.acquire();
      slot.bytes.fill(0xee);
      slot.bytes.set(Buffer.concat(parts));
      return slot;
    }

    function reference(bytes: Uint8Array): Uint8Array {
      return createHasher(hash, chunkContext(0), { implementation: 'reference' }).digest(bytes);
    }

    it('hashes clusters as the reference does and tells zero ones', async () => {
      const parts = [
        noise(CLUSTER),
        Buffer.alloc(CLUSTER),
        text(CLUSTER),
        Buffer.concat([Buffer.alloc(CLUSTER - 1), noise(1)]),
      ];
      const slot = await filled(...parts);
      slot.ids.fill(0xaa);
      slot.flags.fill(0xaa);
      await executor.hashSlot(slot, SLOT);
      expect([...slot.flags]).toEqual([0, 1, 0, 0]);
      for (const [index, part] of parts.entries()) {
        const expected = index === 1 ? ZERO_ID : Buffer.from(reference(part));
        expect(Buffer.from(slot.ids.subarray(index * 32, index * 32 + 32))).toEqual(expected);
      }
      slot.release();
    });

    it.each([1, 4095, 4096, CLUSTER - 1])('hashes a last cluster of %i bytes at its length', async (length) => {
      for (const last of [noise(length, length), Buffer.alloc(length)]) {
        const slot = await filled(noise(CLUSTER), last);
        await executor.hashSlot(slot, CLUSTER + length);
        const zero = last.every((byte) => byte === 0);
        expect([...slot.flags.subarray(0, 2)]).toEqual([0, zero ? 1 : 0]);
        expect(Buffer.from(slot.ids.subarray(32, 64))).toEqual(zero ? ZERO_ID : Buffer.from(reference(last)));
        slot.release();
      }
    });

    async function frameOf(pieces: readonly Piece[]) {
      const into = await output.acquire();
      const frame = await executor.compress(pieces, into);
      const stored = Buffer.from(into.bytes.subarray(0, frame.storedBytes));
      into.release();
      const raw = Buffer.concat(
        pieces.map(({ slot, offsetBytes, lengthBytes }) => slot.bytes.subarray(offsetBytes, offsetBytes + lengthBytes)),
      );
      expect(frame.rawBytes).toBe(raw.length);
      expect(Buffer.from(frame.seal)).toEqual(Buffer.from(sealer(hash)(stored)));
      // `toEqual` would take seconds on so many bytes.
      expect((frame.codec === 0 ? stored : decompress(stored)).equals(raw)).toBe(true);
      return frame;
    }

    function clusters(slot: Slot, ...indices: number[]): Piece[] {
      return indices.map((index) => ({ slot, offsetBytes: index * CLUSTER, lengthBytes: CLUSTER }));
    }

    it('compresses neighbours of one slot', async () => {
      const slot = await filled(text(SLOT));
      const frame = await frameOf(clusters(slot, 0, 1, 2, 3));
      expect(frame.codec).toBe(1);
      expect(frame.storedBytes).toBeLessThan(SLOT / 2);
      slot.release();
    });

    it('gathers pieces of several slots, in their order, with a short last cluster', async () => {
      const a = await filled(text(SLOT, 1));
      const b = await filled(text(SLOT, 2));
      const pieces = [...clusters(a, 3, 0), ...clusters(b, 1, 2), { slot: a, offsetBytes: CLUSTER, lengthBytes: 777 }];
      const frame = await frameOf(pieces);
      expect(frame.codec).toBe(1);
      a.release();
      b.release();
    });

    it('stores as it is what does not shrink by 1/32, from one slot and gathered', async () => {
      const slot = await filled(noise(SLOT));
      expect(await frameOf(clusters(slot, 0, 1, 2, 3))).toMatchObject({ codec: 0, storedBytes: SLOT });
      expect(await frameOf(clusters(slot, 2, 0))).toMatchObject({ codec: 0, storedBytes: 2 * CLUSTER });
      // About 1/64 of it compresses: not enough.
      slot.bytes.fill(0, 0, CLUSTER / 64);
      expect(await frameOf(clusters(slot, 0))).toMatchObject({ codec: 0 });
      slot.bytes.fill(0, 0, CLUSTER / 16);
      expect(await frameOf(clusters(slot, 0))).toMatchObject({ codec: 1 });
      slot.release();
    });

    it.each([1, 31, 32, 33, 5000])('makes a frame of %i bytes', async (length) => {
      const slot = await filled(text(SLOT));
      await frameOf([{ slot, offsetBytes: 3, lengthBytes: length }]);
      slot.release();
    });

    it('fills an output slot to its last byte', async () => {
      const slots = await Promise.all([1, 2, 3, 4].map((seed) => filled(noise(SLOT, seed))));
      const pieces = slots.map((slot) => ({ slot, offsetBytes: 0, lengthBytes: SLOT }));
      expect(await frameOf(pieces)).toMatchObject({ codec: 0, storedBytes: 4 * SLOT });
      for (const slot of slots) slot.release();
    });

    it('keeps many overlapping calls apart', async () => {
      const work = Array.from({ length: 60 }, async (_, index) => {
        const bytes = text(CLUSTER * 2, index + 1);
        const slot = await filled(bytes);
        await executor.hashSlot(slot, bytes.length);
        expect(Buffer.from(slot.ids.subarray(32, 64))).toEqual(Buffer.from(reference(bytes.subarray(CLUSTER))));
        await frameOf(clusters(slot, 0, 1));
        slot.release();
      });
      await Promise.all(work);
      expect(input.freeCount).toBe(8);
    });

    describe('intake', () => {
      const directory = mkdtempSync(join(tmpdir(), 'vmar-intake-'));
      const path = join(directory, 'image');
      const content = Buffer.concat([
        text(CLUSTER, 1),
        Buffer.alloc(CLUSTER),
        noise(CLUSTER),
        Buffer.alloc(2 * CLUSTER),
        text(100),
      ]);
      writeFileSync(path, content);
      const fd = openSync(path, 'r');
      afterAll(() => {
        closeSync(fd);
        rmSync(directory, { recursive: true });
      });

      it.each([
        [0, 3 * CLUSTER, [0, 1, 0]],
        [2 * CLUSTER, 3 * CLUSTER + 100, [0, 1, 1, 0]],
        [3 * CLUSTER, 2 * CLUSTER, [1, 1]],
      ])('reads, hashes and compresses as the single steps do, from %i', async (offsetBytes, length, zero) => {
        const expected = content.subarray(offsetBytes, offsetBytes + length);
        const byHand = await filled(expected);
        await executor.hashSlot(byHand, length);
        const raw = zero.flatMap((flag, index) =>
          flag ? [] : [expected.subarray(index * CLUSTER, (index + 1) * CLUSTER)],
        );
        for (const from of [{ fd, offsetBytes }, undefined]) {
          const slot = from === undefined ? await filled(expected) : await filled();
          const into = await output.acquire();
          const taken = await executor.intake(slot, length, { into, ...(from === undefined ? {} : { from }) });
          expect(taken.readBytes).toBe(length);
          expect(Buffer.from(slot.bytes.subarray(0, length)).equals(expected)).toBe(true);
          expect([...slot.flags.subarray(0, zero.length)]).toEqual(zero);
          const ids = [slot, byHand].map((one) => Buffer.from(one.ids.subarray(0, zero.length * 32)));
          expect(ids[0]).toEqual(ids[1]);
          const { frame } = taken;
          expect(frame?.rawBytes ?? 0).toBe(Buffer.concat(raw).length);
          if (frame !== undefined) {
            const stored = Buffer.from(into.bytes.subarray(0, frame.storedBytes));
            expect((frame.codec === 0 ? stored : decompress(stored)).equals(Buffer.concat(raw))).toBe(true);
            expect(Buffer.from(frame.seal)).toEqual(Buffer.from(sealer(hash)(stored)));
          }
          slot.release();
          into.release();
        }
        byHand.release();
      });

      it('hashes alone where there is nothing to compress into', async () => {
        const slot = await filled();
        const taken = await executor.intake(slot, CLUSTER, { from: { fd, offsetBytes: 0 } });
        expect(taken).toEqual({ readBytes: CLUSTER, frame: undefined });
        expect(Buffer.from(slot.ids.subarray(0, 32))).toEqual(Buffer.from(reference(content.subarray(0, CLUSTER))));
        slot.release();
      });

      it('tells how much a file that ends early had, and makes no frame', async () => {
        const slot = await filled();
        const into = await output.acquire();
        const from = { fd, offsetBytes: content.length - CLUSTER };
        const taken = await executor.intake(slot, 2 * CLUSTER, { from, into });
        expect(taken).toEqual({ readBytes: CLUSTER, frame: undefined });
        slot.release();
        into.release();
      });

      it("rejects with the system's error, and with ours for what does not fit", async () => {
        const slot = await filled();
        const small = input.tryAcquire()!;
        const folder = openSync(directory, 'r');
        const request = executor.intake(slot, CLUSTER, { from: { fd: folder, offsetBytes: 0 } });
        await expect(request).rejects.toMatchObject({ code: 'EISDIR', syscall: 'read' });
        closeSync(folder);
        await expect(executor.intake(slot, SLOT, { into: slot })).rejects.toThrow(BugError);
        const into = await output.acquire();
        await expect(executor.intake(into, 2 * SLOT, { into: small })).rejects.toThrow(BugError);
        for (const held of [slot, small, into]) held.release();
      });
    });

    it('refuses what does not fit, and goes on', async () => {
      const slot = await filled(text(SLOT));
      const into = await output.acquire();
      const whole = { slot, offsetBytes: 0, lengthBytes: SLOT };
      await expect(executor.hashSlot(slot, SLOT + 1)).rejects.toThrow(BugError);
      await expect(executor.hashSlot(slot, 0)).rejects.toThrow(BugError);
      await expect(executor.compress([], into)).rejects.toThrow(BugError);
      await expect(executor.compress([whole, whole, whole, whole, whole], into)).rejects.toThrow(BugError);
      await expect(executor.compress([{ ...whole, offsetBytes: 1 }], into)).rejects.toThrow(BugError);
      await expect(executor.compress([{ slot: into, offsetBytes: 0, lengthBytes: 9 }], into)).rejects.toThrow(BugError);
      await executor.hashSlot(slot, SLOT);
      slot.release();
      into.release();
    });

    it('rejects what comes after close', async () => {
      const other = createExecutor({ workers, hash, level: 1, clusterSizeBytes: CLUSTER, pools: [input, output] });
      const slot = await filled(text(SLOT));
      await other.hashSlot(slot, SLOT);
      await other.close();
      await other.close();
      await expect(other.hashSlot(slot, SLOT)).rejects.toThrow(FailedError);
      slot.release();
    });
  });
}
