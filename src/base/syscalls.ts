// SPDX-License-Identifier: MIT
// Linux system calls that Node does not offer, through koffi. koffi is loaded on the first call of a thread. A failed
// call throws an error like Node's own, with `code`, `errno` and `syscall`. Calls are synchronous and take microseconds
// unless their comment says otherwise. 64-bit Linux only.

import { createRequire } from 'node:module';
import { constants } from 'node:os';
import { FailedError } from './errors.js';

const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const LOCK = { shared: 1, exclusive: 2, unlock: 8 } as const;
const LOCK_NB = 4;
const FALLOC_KEEP_SIZE = 0x01;
const FALLOC_PUNCH_HOLE = 0x02;
const FALLOC_ZERO_RANGE = 0x10;
const SYNC_FILE_RANGE_WRITE = 2;
const POSIX_FADV_WILLNEED = 3;
const RWF_NOWAIT = 0x08;
const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;
const FIONBIO = 0x5421;
/** _IOR(0x12, 114, size_t) */
const BLKGETSIZE64 = 0x80081272;

export type FileLockMode = keyof typeof LOCK;
export type RangeLockType = 'read' | 'write';

/** What a system call that failed looks like; the same as an error of node:fs. */
export interface SystemError extends Error {
  readonly code: string;
  readonly errno: number;
  readonly syscall: string;
}

type Koffi = typeof import('koffi');
type AsyncResult = (error: unknown, result: number) => void;

interface FallocateCall {
  (fd: number, mode: number, offset: number, length: number): number;
  async(fd: number, mode: number, offset: number, length: number, done: AsyncResult): void;
}

interface Calls {
  readonly koffi: Koffi;
  readonly lseek: (fd: number, offset: number, whence: number) => number;
  readonly flock: (fd: number, operation: number) => number;
  readonly fcntl: (fd: number, command: number, type: string, argument: Uint8Array) => number;
  readonly ioctl: (fd: number, request: number, type: string, argument: Uint8Array) => number;
  readonly fallocate: FallocateCall;
  readonly preadv2: (fd: number, vectors: Uint8Array, count: number, offset: number, flags: number) => number;
  readonly memcpy: (to: Uint8Array, from: Uint8Array, length: number) => void;
  readonly fadvise: (fd: number, offset: number, length: number, advice: number) => number;
  readonly exit: (status: number) => never;
  readonly syncFileRange: (fd: number, offset: number, length: number, flags: number) => number;
}

let loaded: Calls | undefined;

function calls(): Calls {
  loaded ??= load();
  return loaded;
}

function load(): Calls {
  try {
    const koffi: Koffi = createRequire(import.meta.url)('koffi');
    const libc = koffi.load(null);
    return {
      koffi,
      lseek: libc.func('int64_t lseek(int fd, int64_t offset, int whence)'),
      flock: libc.func('int flock(int fd, int operation)'),
      fcntl: libc.func('int fcntl(int fd, int command, ...)'),
      ioctl: libc.func('int ioctl(int fd, unsigned long request, ...)'),
      fallocate: libc.func(
        'int fallocate(int fd, int mode, int64_t offset, int64_t length)',
      ) as unknown as FallocateCall,
      preadv2: libc.func('int64_t preadv2(int fd, const void *vectors, int count, int64_t offset, int flags)'),
      memcpy: libc.func('void memcpy(_Out_ void *to, const void *from, size_t length)'),
      fadvise: libc.func('int posix_fadvise(int fd, int64_t offset, int64_t length, int advice)'),
      exit: libc.func('void _exit(int status)') as unknown as (status: number) => never,
      syncFileRange: libc.func('int sync_file_range(int fd, int64_t offset, int64_t length, unsigned int flags)'),
    };
  } catch (cause) {
    throw new FailedError('koffi-missing', `system calls are not available: koffi did not load (${String(cause)})`, {
      object: `${process.platform}-${process.arch}`,
      advice: 'Install vmar again with npm, without --omit=optional, on a 64-bit Linux that koffi has a binary for.',
      cause,
    });
  }
}

const ERRNO_NAMES = new Map(Object.entries(constants.errno).map(([name, value]) => [value, name]));
// EOPNOTSUPP and ENOTSUP share one number on Linux, EAGAIN and EWOULDBLOCK another: the names that node:fs uses.
ERRNO_NAMES.set(constants.errno.ENOTSUP, 'ENOTSUP');
ERRNO_NAMES.set(constants.errno.EAGAIN, 'EAGAIN');

function failure(syscall: string): SystemError {
  const errno = calls().koffi.errno();
  const code = ERRNO_NAMES.get(errno) ?? `E${errno}`;
  return Object.assign(new Error(`${code}: ${syscall} failed`), { code, errno: -errno, syscall });
}

/**
 * Ends the process at once, also while a thread of it hangs in the kernel, as on a file server that is gone: process.exit
 * waits for that one. Nothing is flushed, and no listener is called.
 */
export function exitNow(status: number): never {
  return calls().exit(status);
}

/** The first byte of data at or after `offset`; undefined where only a hole or the end follows. */
export function seekData(fd: number, offset: number): number | undefined {
  const found = calls().lseek(fd, offset, SEEK_DATA);
  if (found >= 0) return found;
  const error = failure('lseek');
  if (error.code === 'ENXIO') return undefined;
  throw error;
}

/** The start of the first hole at or after `offset`, or the end of the file; ENXIO where `offset` is past the end. */
export function seekHole(fd: number, offset: number): number {
  const found = calls().lseek(fd, offset, SEEK_HOLE);
  if (found < 0) throw failure('lseek');
  return found;
}

/** Takes, changes or gives up the lock on the open file. False: another open file holds one that excludes it. */
export function flock(fd: number, mode: FileLockMode, _options: { wait: false }): boolean {
  for (;;) {
    if (calls().flock(fd, LOCK[mode] | LOCK_NB) === 0) return true;
    const error = failure('flock');
    if (error.code === 'EAGAIN') return false;
    if (error.code !== 'EINTR') throw error;
  }
}

/** The size of a block device; ENOTTY for anything else. */
export function blockDeviceBytes(fd: number): number {
  const size = Buffer.alloc(8);
  if (calls().ioctl(fd, BLKGETSIZE64, 'void *', size) !== 0) throw failure('ioctl');
  return Number(size.readBigUInt64LE());
}

/** Makes writes to the open file wait until there is room, also where Node has made it non-blocking. */
export function setBlocking(fd: number): void {
  if (calls().ioctl(fd, FIONBIO, 'void *', Buffer.alloc(4)) !== 0) throw failure('ioctl');
}

/**
 * Frees the range, which reads as zeros afterwards; the file keeps its length. False: the file system or device cannot.
 * May take long on a large, fragmented range: prefer `punchHoleAsync` there.
 */
export function punchHole(fd: number, offset: number, length: number): boolean {
  return fallocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, offset, length);
}

/** Makes the range read as zeros and keeps it allocated; the length stays. False: the file system cannot. */
export function zeroRange(fd: number, offset: number, length: number): boolean {
  return fallocate(fd, FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE, offset, length);
}

/** `punchHole` on another thread. The descriptor must stay open until it resolves. */
export function punchHoleAsync(fd: number, offset: number, length: number): Promise<boolean> {
  return fallocateAsync(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, offset, length);
}

/** `zeroRange` on another thread. The descriptor must stay open until it resolves. */
export function zeroRangeAsync(fd: number, offset: number, length: number): Promise<boolean> {
  return fallocateAsync(fd, FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE, offset, length);
}

/** EINVAL is a block device that wants other alignment; ENODEV one of before Linux 4.9. */
const UNSUPPORTED: ReadonlySet<string> = new Set(['ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'ENODEV', 'EINVAL']);

function fallocate(fd: number, mode: number, offset: number, length: number): boolean {
  if (length === 0) return true;
  for (;;) {
    if (calls().fallocate(fd, mode, offset, length) === 0) return true;
    const error = failure('fallocate');
    if (UNSUPPORTED.has(error.code)) return false;
    if (error.code !== 'EINTR') throw error;
  }
}

async function fallocateAsync(fd: number, mode: number, offset: number, length: number): Promise<boolean> {
  if (length === 0) return true;
  const result = await new Promise<number>((resolve, reject) => {
    calls().fallocate.async(fd, mode, offset, length, (error, value) => (error ? reject(error) : resolve(value)));
  });
  // errno belongs to the thread that made the call: a failed call is made again here, to learn why.
  return result === 0 || fallocate(fd, mode, offset, length);
}

/** Starts writing dirty pages of the range to the disk, and does not wait. A hint: never fails, promises nothing. */
export function startWriteback(fd: number, offset: number, length: number): void {
  calls().syncFileRange(fd, offset, length, SYNC_FILE_RANGE_WRITE);
}

/** Starts reading the range into the page cache, and does not wait. A hint: never fails, promises nothing. */
export function readAhead(fd: number, offset: number, length: number): void {
  calls().fadvise(fd, offset, length, POSIX_FADV_WILLNEED);
}

/** struct flock of 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid. */
function rangeLock(type: number, start: number, length: number): Buffer {
  const lock = Buffer.alloc(32);
  lock.writeInt16LE(type, 0);
  lock.writeBigInt64LE(BigInt(start), 8);
  lock.writeBigInt64LE(BigInt(length), 16);
  return lock;
}

/** Whether a lock of this type could be taken now: true = no other open file holds one that excludes it. */
export function ofdQueryLock(fd: number, type: RangeLockType, start: number, length: number): boolean {
  const lock = rangeLock(type === 'read' ? F_RDLCK : F_WRLCK, start, length);
  if (calls().fcntl(fd, F_OFD_GETLK, 'void *', lock) !== 0) throw failure('fcntl');
  return lock.readInt16LE(0) === F_UNLCK;
}

/** Takes a lock that belongs to the open file. False: another open file holds one that excludes it. */
export function ofdTryLock(fd: number, type: RangeLockType, start: number, length: number): boolean {
  const lock = rangeLock(type === 'read' ? F_RDLCK : F_WRLCK, start, length);
  if (calls().fcntl(fd, F_OFD_SETLK, 'void *', lock) === 0) return true;
  const error = failure('fcntl');
  if (error.code === 'EAGAIN' || error.code === 'EACCES') return false;
  throw error;
}

/** Gives up what `ofdTryLock` took in the range. */
export function ofdUnlock(fd: number, start: number, length: number): void {
  if (calls().fcntl(fd, F_OFD_SETLK, 'void *', rangeLock(F_UNLCK, start, length)) !== 0) throw failure('fcntl');
}

/** Below this a call out of the engine costs more than it saves. */
const SMALL_COPY_BYTES = 4096;

/**
 * Copies all of `from` to the start of `to`, which must be as long at least. The engine copies shared memory word by
 * word, since other threads may look on; where the caller knows that none does, this is several times faster.
 */
export function copyBytes(to: Uint8Array, from: Uint8Array): void {
  if (to.byteLength < from.byteLength) throw new RangeError(`no room for ${from.byteLength} bytes`);
  if (from.byteLength < SMALL_COPY_BYTES) to.set(from);
  else calls().memcpy(to, from, from.byteLength);
}

/** Bytes to skip in `memory` until its address is a multiple of `alignment`, a power of two. */
export function alignedOffset(memory: SharedArrayBuffer | Uint8Array, alignment: number): number {
  const bytes = memory instanceof Uint8Array ? memory : new Uint8Array(memory);
  const past = Number(calls().koffi.address(bytes) % BigInt(alignment));
  return past === 0 ? 0 : alignment - past;
}

/** struct iovec of 64-bit Linux: address, length. Filled anew for each call, which does not keep it. */
const VECTOR = new BigUint64Array(2);
const VECTOR_BYTES = new Uint8Array(VECTOR.buffer);

/**
 * Reads what the page cache holds, without waiting for a disk. False: it does not hold all of it, and `into` may have
 * got a part. 'never': the file system cannot be asked, now or later.
 */
export function readCached(fd: number, offset: number, into: Uint8Array): boolean | 'never' {
  const { koffi, preadv2 } = calls();
  VECTOR[0] = koffi.address(into);
  VECTOR[1] = BigInt(into.byteLength);
  const count = preadv2(fd, VECTOR_BYTES, 1, offset, RWF_NOWAIT);
  if (count === into.byteLength) return true;
  return count < 0 && UNSUPPORTED.has(failure('preadv2').code) ? 'never' : false;
}
