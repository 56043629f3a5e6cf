// SPDX-License-Identifier: MIT
// Ids, digests and seals (SPEC.md §1): two algorithms, each keyed by a context, each in native code and, as a second
// opinion and a fallback, in plain JavaScript.

import { createHmac, createSecretKey } from 'node:crypto';
import { createRequire } from 'node:module';
import { blake3 } from '@noble/hashes/blake3.js';
import { hmac } from '@noble/hashes/hmac.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { asBuffer } from '../../src/base/bytes.js';
import { UsageError } from '../../src/base/errors.js';

export type HashName = 'blake3' | 'sha256';
export type HashImplementation = 'native' | 'reference';

export const ID_BYTES = 32;
export const DIGEST_BYTES = 32;
export const SEAL_BYTES = 16;
export const KEY_BYTES = 32;
/** Kinds of chunks: 0 data, 1 to 7 a map page of that level. */
export const MAX_CHUNK_KIND = 7;

/** The hash of one context. Reusable, not re-entrant; bytes may lie in shared memory. */
export interface Hasher {
  /** Writes the 32 bytes of the hash to the start of `out`, which is at least as long. */
  into(bytes: Uint8Array, out: Uint8Array): void;
  /** The same in memory of its own. */
  digest(bytes: Uint8Array): Uint8Array;
}

export interface HasherOptions {
  /** 32 bytes; all zero by default, as in a store that is not encrypted. */
  readonly key?: Uint8Array;
  /** 'reference' is @noble/hashes: the definition that the native code is checked against, and about 80 times slower. */
  readonly implementation?: HashImplementation;
}

/** The byte that stands for a hash in headers. */
export function hashNumber(hash: HashName): number {
  return hash === 'blake3' ? 1 : 2;
}

/** undefined for a byte that stands for none. */
export function hashFromNumber(number: number): HashName | undefined {
  return number === 1 ? 'blake3' : number === 2 ? 'sha256' : undefined;
}

/** The context of the ids of data chunks (kind 0) and of map pages of level `kind`. */
export function chunkContext(kind: number): string {
  return kind === 0 ? 'chunk data' : `chunk map ${kind}`;
}

/** Without the native BLAKE3 it falls back to the reference, with one warning in each thread. */
export function createHasher(hash: HashName, context: string, options: HasherOptions = {}): Hasher {
  const stream = openStream(hash, context, options);
  const into = (bytes: Uint8Array, out: Uint8Array): void => {
    stream.start();
    stream.add(bytes);
    stream.finish(out);
  };
  const digest = (bytes: Uint8Array): Uint8Array => {
    const out = Buffer.alloc(ID_BYTES);
    into(bytes, out);
    return out;
  };
  return { into, digest };
}

/** Seals the parts, as if they lay end to end. Gives 16 bytes of its own. */
export type Sealer = (...parts: Uint8Array[]) => Uint8Array;

const sealers = new Map<string, Sealer>();

/** The sealer of a hash, always the same one; seals always use the all-zero key. */
export function sealer(hash: HashName, implementation: HashImplementation = 'native'): Sealer {
  const name = `${hash} ${implementation}`;
  let seal = sealers.get(name);
  if (seal === undefined) {
    seal = makeSealer(openStream(hash, 'seal', { implementation }));
    sealers.set(name, seal);
  }
  return seal;
}

function makeSealer(stream: HashStream): Sealer {
  const digest = Buffer.alloc(ID_BYTES);
  return (...parts) => {
    stream.start();
    for (const part of parts) stream.add(part);
    stream.finish(digest);
    return Uint8Array.prototype.slice.call(digest, 0, SEAL_BYTES);
  };
}

/** One hash after another: `start`, any number of `add`, `finish`. */
interface HashStream {
  start(): void;
  add(bytes: Uint8Array): void;
  finish(out: Uint8Array): void;
}

const CONTEXT_PREFIX = 'vmar v1 ';
const ZERO_KEY = new Uint8Array(KEY_BYTES);

function openStream(hash: HashName, context: string, options: HasherOptions): HashStream {
  const { key = ZERO_KEY, implementation = 'native' } = options;
  if (key.byteLength !== KEY_BYTES) throw new UsageError('key-length', `a hash key has ${KEY_BYTES} bytes`);
  const contextBytes = Buffer.from(CONTEXT_PREFIX + context);
  if (hash === 'sha256') {
    const contextKey = hmac(sha256, key, contextBytes);
    if (implementation === 'native') return nativeSha256(contextKey);
    return referenceStream(() => hmac.create(sha256, contextKey));
  }
  const contextKey = blake3(key, { context: contextBytes });
  const native = implementation === 'native' ? loadNativeBlake3() : undefined;
  if (native !== undefined) return nativeBlake3(native, contextKey);
  return referenceStream(() => blake3.create({ key: contextKey }));
}

interface NativeBlake3 {
  reset(): void;
  update(bytes: Uint8Array): unknown;
  digest(format: 'hex'): string;
}

interface NativeBlake3Class {
  newKeyed(key: Buffer): NativeBlake3;
}

let nativeClass: NativeBlake3Class | 'missing' | undefined;

function loadNativeBlake3(): NativeBlake3Class | undefined {
  nativeClass ??= requireNativeBlake3();
  return nativeClass === 'missing' ? undefined : nativeClass;
}

function requireNativeBlake3(): NativeBlake3Class | 'missing' {
  try {
    const module = createRequire(import.meta.url)('@napi-rs/blake-hash') as { Blake3Hasher: NativeBlake3Class };
    return module.Blake3Hasher;
  } catch (error) {
    process.emitWarning(`native BLAKE3 is not available, hashing will be slow: ${String(error)}`, 'VmarWarning');
    return 'missing';
  }
}

function nativeBlake3(native: NativeBlake3Class, contextKey: Uint8Array): HashStream {
  const state = native.newKeyed(Buffer.from(contextKey));
  return {
    start: () => state.reset(),
    add: (bytes) => void state.update(bytes),
    // By way of hex: each Buffer that the native code makes leaves a finalizer behind, which costs more time and 30 MiB.
    finish: (out) => void asBuffer(out).write(state.digest('hex'), 0, ID_BYTES, 'hex'),
  };
}

function nativeSha256(contextKey: Uint8Array): HashStream {
  const key = createSecretKey(contextKey);
  let state = createHmac('sha256', key);
  return {
    start: () => {
      state = createHmac('sha256', key);
    },
    add: (bytes) => void state.update(bytes),
    finish: (out) => out.set(state.digest()),
  };
}

interface ReferenceState {
  update(bytes: Uint8Array): unknown;
  digest(): Uint8Array;
}

function referenceStream(create: () => ReferenceState): HashStream {
  let state = create();
  return {
    start: () => {
      state = create();
    },
    add: (bytes) => void state.update(bytes),
    finish: (out) => out.set(state.digest()),
  };
}
