// SPDX-License-Identifier: MIT
import { createHmac } from 'node:crypto';
import { createRequire } from 'node:module';
import { blake3 } from '@noble/hashes/blake3.js';
import { hmac } from '@noble/hashes/hmac.js';
import { sha256 } from '@noble/hashes/sha2.js';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  chunkContext,
  createHasher,
  type HashImplementation,
  type HashName,
  hashFromNumber,
  hashNumber,
  sealer,
} from '#vmar/formats/vmar/hash.js';
import { UsageError } from '#vmar/src/base/errors.js';
import { counting, HASHES } from './samples.js';

const IMPLEMENTATIONS: readonly HashImplementation[] = ['native', 'reference'];
const ZERO_KEY = new Uint8Array(32);

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** SPEC.md §1, word for word. */
function specified(hash: HashName, context: string, key: Uint8Array, bytes: Uint8Array): Uint8Array {
  const text = Buffer.from(`vmar v1 ${context}`);
  if (hash === 'blake3') return blake3(bytes, { key: blake3(key, { context: text }) });
  return createHmac('sha256', createHmac('sha256', key).update(text).digest()).update(bytes).digest();
}

describe('the functions beneath', () => {
  // From the test vectors that BLAKE3 is published with: input bytes count up, modulo 251.
  const key = Buffer.from('whats the Elvish word for friend');
  const context = 'BLAKE3 2019-12-27 16:29:52 test vectors context';
  const vectors = [
    {
      length: 0,
      hash: 'af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262',
      keyed: '92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26',
      derived: '2cc39783c223154fea8dfb7c1b1660f2ac2dcbd1c1de8277b0b0dd39b7e50d7d',
    },
    {
      length: 1,
      hash: '2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213',
      keyed: '6d7878dfff2f485635d39013278ae14f1454b8c0a3a2d34bc1ab38228a80c95b',
      derived: 'b3e2e340a117a499c6cf2398a19ee0d29cca2bb7404c73063382693bf66cb06c',
    },
  ];
  const { Blake3Hasher } = createRequire(import.meta.url)(
    '@napi-rs/blake-hash',
  ) as typeof import('@napi-rs/blake-hash');

  it.each(vectors)('BLAKE3 of $length bytes is as published', ({ length, hash, keyed, derived }) => {
    const input = counting(0, length);
    expect(hex(blake3(input))).toBe(hash);
    expect(hex(blake3(input, { key }))).toBe(keyed);
    expect(hex(blake3(input, { context: Buffer.from(context) }))).toBe(derived);
    expect(Blake3Hasher.newKeyed(key).update(input).digest('hex')).toBe(keyed);
    expect(hex(Blake3Hasher.deriveKey(context, input))).toBe(derived);
  });

  it.each([1023, 1024, 1025, 2048, 3073, 8192, 65536, 102400])(
    'native and reference BLAKE3 agree on %i bytes',
    (length) => {
      const input = Uint8Array.from({ length }, (_, index) => index % 251);
      expect(hex(blake3(input, { key }))).toBe(Blake3Hasher.newKeyed(key).update(input).digest('hex'));
    },
  );

  it('HMAC-SHA-256 is as in RFC 4231, cases 1 and 2', () => {
    const cases = [
      [Buffer.alloc(20, 0x0b), 'Hi There', 'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7'],
      ['Jefe', 'what do ya want for nothing?', '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843'],
    ] as const;
    for (const [secret, data, wanted] of cases) {
      expect(hex(hmac(sha256, Buffer.from(secret), Buffer.from(data)))).toBe(wanted);
      expect(createHmac('sha256', secret).update(data).digest('hex')).toBe(wanted);
    }
  });
});

describe('hashers', () => {
  // Frozen: every id in every datastore hangs on these. The second reader's own BLAKE3 gave the same.
  it.each([
    ['blake3', 'chunk data', '39a5ebe6418c06aa59d17963d95ca76aba68ac06f31a8b7c05fc40f05d8d0099'],
    ['blake3', 'chunk map 1', 'a55de411b575d79d4ca6c98cc9edb0d7415d1ab7a7e629a887b86b03041dc1b9'],
    ['blake3', 'manifest', '19e082cbee586a374813e60a446f792901536559fbecd119adc708e517b7d5cb'],
    ['blake3', 'seal', 'a80d0d2826ba6ba9cea26c50b685e130ddd4b7fbe10896378f8d47978caa704b'],
    ['sha256', 'chunk data', 'b7efa3f0fb98b70d8104194719fd5be45e550e23b1aa24679ed224aad43a6695'],
    ['sha256', 'chunk map 1', 'c22a8feb529c95fc680aed3c70594248b9d090f936e06b90b2de1a6802fb1afe'],
    ['sha256', 'manifest', '833c53ab00cca9b7f877a2a65d67b95266a88bb717c8daef077deab0b4126e8b'],
    ['sha256', 'seal', '8153aaa3531e3c7c0a4f4f610e23e182dbfa8033c1a15cd17d68b7c5567d0850'],
  ] as const)('%s in the context "%s" gives what it always gave', (hash, context, wanted) => {
    for (const implementation of IMPLEMENTATIONS) {
      expect(hex(createHasher(hash, context, { implementation }).digest(Buffer.from('vmar')))).toBe(wanted);
    }
  });

  describe.each(HASHES)('%s', (hash) => {
    it('is as specified, in native code and in the reference, of any bytes under any key and context', () => {
      const bytes = fc.uint8Array({ maxLength: 5000, size: 'max' });
      const key = fc.uint8Array({ minLength: 32, maxLength: 32 });
      fc.assert(
        fc.property(bytes, key, fc.string(), (input, secret, context) => {
          const wanted = hex(specified(hash, context, secret, input));
          for (const implementation of IMPLEMENTATIONS) {
            expect(hex(createHasher(hash, context, { key: secret, implementation }).digest(input))).toBe(wanted);
          }
        }),
      );
    });

    it.each(IMPLEMENTATIONS)(
      '%s: one hasher hashes many inputs, also from and into shared memory',
      (implementation) => {
        const hasher = createHasher(hash, 'chunk data', { implementation });
        const shared = new SharedArrayBuffer(70_000);
        const out = new Uint8Array(shared, 69_000, 40);
        for (const [offset, length] of [
          [0, 0],
          [3, 1],
          [1, 65536],
          [5, 4096],
        ] as const) {
          const bytes = new Uint8Array(shared, offset, length);
          bytes.fill(length & 0xff);
          const wanted = hex(specified(hash, 'chunk data', ZERO_KEY, Uint8Array.from(bytes)));
          hasher.into(bytes, out);
          expect(hex(Uint8Array.from(out.subarray(0, 32)))).toBe(wanted);
          expect(hex(out.subarray(32))).toBe('00'.repeat(8));
          expect(hex(hasher.digest(bytes))).toBe(wanted);
        }
      },
    );

    it.each(IMPLEMENTATIONS)('%s: digests given away are not touched by the next', (implementation) => {
      const hasher = createHasher(hash, 'chunk data', { implementation });
      const first = hasher.digest(Buffer.from('a'));
      const before = hex(first);
      hasher.digest(Buffer.from('b'));
      expect(hex(first)).toBe(before);
    });

    it('gives every kind of chunk, and a manifest, another id for the same bytes', () => {
      const contexts = [0, 1, 2, 3, 4, 5, 6, 7].map(chunkContext).concat('manifest', 'seal');
      const ids = contexts.map((context) => hex(createHasher(hash, context).digest(new Uint8Array(64))));
      expect(new Set(ids).size).toBe(10);
    });

    it('has seals that are the first half of the hash of all parts end to end', () => {
      const parts = [counting(1, 80), counting(2, 0), counting(3, 5000)];
      const wanted = hex(specified(hash, 'seal', ZERO_KEY, Buffer.concat(parts)).subarray(0, 16));
      for (const implementation of IMPLEMENTATIONS) {
        const seal = sealer(hash, implementation);
        expect(hex(seal(...parts))).toBe(wanted);
        const first = seal(parts[0]!);
        const before = hex(first);
        seal(parts[2]!);
        expect(hex(first)).toBe(before);
        expect(first.byteLength).toBe(16);
        expect(sealer(hash, implementation)).toBe(seal);
      }
    });

    it('refuses a key of another length', () => {
      expect(() => createHasher(hash, 'seal', { key: new Uint8Array(31) })).toThrow(UsageError);
    });

    it('stands for its number in headers', () => {
      expect(hashFromNumber(hashNumber(hash))).toBe(hash);
    });
  });

  it('has the contexts of the specification', () => {
    expect([0, 1, 7].map(chunkContext)).toEqual(['chunk data', 'chunk map 1', 'chunk map 7']);
  });

  it('knows no other numbers of algorithms', () => {
    expect([0, 3, 255].map(hashFromNumber)).toEqual([undefined, undefined, undefined]);
    expect(HASHES.map(hashNumber)).toEqual([1, 2]);
  });
});
