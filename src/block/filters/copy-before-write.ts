// SPDX-License-Identifier: MIT
// Lets no request change the device before somebody has saved what it changes: the ground of a snapshot.

import type { Clock } from '../../base/clock.js';
import { FailedError } from '../../base/errors.js';
import type { BlockNode } from '../block-node.js';
import type { DirtyBitmap } from '../dirty-bitmap.js';
import { checkRange, checkWritable } from '../range.js';
import { PassThrough } from './pass-through.js';

/**
 * What suffers when old content cannot be saved. `break-guest-write`: the guest's request fails, and the snapshot stays
 * whole. `break-snapshot`: the snapshot is lost, and the guest goes on.
 */
export type CopyFailurePolicy = 'break-guest-write' | 'break-snapshot';

export interface CopyBeforeWriteOptions {
  /**
   * Saves what the range holds, for as long as it has not been saved; undefined if that was done before. It may not send
   * requests to a node above the filter. When it rejects, the policy decides.
   */
  readonly copyBefore: (offsetBytes: number, lengthBytes: number) => Promise<void> | undefined;
  readonly policy: CopyFailurePolicy;
  /** A copy that takes longer counts as failed; it may go on. */
  readonly timeout?: { readonly millis: number; readonly clock: Clock };
  /** Only what is dirty in it is saved; the rest of the device is nobody's concern. */
  readonly bitmap?: DirtyBitmap;
  /** The snapshot is lost; called once, before the request that it gave way to goes on. Must not throw. */
  readonly onBroken?: (error: FailedError) => void;
}

/**
 * The guarantee: as long as the filter is neither broken nor off, no write, write of zeros or discard reaches the device
 * before `copyBefore` has resolved for each part of its range that the bitmap names. So whoever reads below the filter
 * sees there, up to that moment, what the device held when the filter was put in. Reads and flushes pass.
 *
 * Where a copy fails or takes too long, by policy either the request is refused and has changed nothing, or the filter is
 * broken: `isBroken` is true before the request goes on, and from then on every request passes.
 */
export class CopyBeforeWrite extends PassThrough {
  readonly #options: CopyBeforeWriteOptions;
  #isBroken = false;
  #isOff = false;
  /** Lets requests go that wait for a copy. */
  readonly #waiting = new Set<() => void>();

  constructor(below: BlockNode, options: CopyBeforeWriteOptions) {
    super(below);
    this.#options = options;
  }

  /** Whether a request went on before its old content was saved. */
  get isBroken(): boolean {
    return this.#isBroken;
  }

  /** Nobody needs the old content any more: requests pass from now on, also those that wait for a copy. */
  turnOff(): void {
    this.#isOff = true;
    for (const letGo of [...this.#waiting]) letGo();
  }

  tryRead(offsetBytes: number, into: Uint8Array): boolean {
    return this.below.tryRead(offsetBytes, into);
  }

  override async write(offsetBytes: number, from: Uint8Array): Promise<void> {
    const saving = this.#save(offsetBytes, from.byteLength);
    if (saving) await saving;
    await this.below.write(offsetBytes, from);
  }

  override async writeZeroes(
    offsetBytes: number,
    lengthBytes: number,
    options?: { keepAllocated?: boolean },
  ): Promise<void> {
    const saving = this.#save(offsetBytes, lengthBytes);
    if (saving) await saving;
    await this.below.writeZeroes(offsetBytes, lengthBytes, options);
  }

  override async discard(offsetBytes: number, lengthBytes: number): Promise<void> {
    const saving = this.#save(offsetBytes, lengthBytes);
    if (saving) await saving;
    await this.below.discard(offsetBytes, lengthBytes);
  }

  /** Undefined when there is nothing to wait for. */
  #save(offsetBytes: number, lengthBytes: number): Promise<void> | undefined {
    checkWritable(this);
    checkRange(this, offsetBytes, lengthBytes);
    if (this.#isOff || this.#isBroken || lengthBytes === 0) return undefined;
    const { bitmap, copyBefore } = this.#options;
    if (!bitmap) {
      const copying = copyBefore(offsetBytes, lengthBytes);
      return copying && this.#await(copying, offsetBytes);
    }
    if (bitmap.nextDirty(offsetBytes, offsetBytes + lengthBytes) === undefined) return undefined;
    return this.#await(this.#saveNamed(bitmap, offsetBytes, offsetBytes + lengthBytes), offsetBytes);
  }

  async #saveNamed(bitmap: DirtyBitmap, from: number, to: number): Promise<void> {
    for (let range = bitmap.nextDirtyRange(from, to); range; ) {
      await this.#options.copyBefore(range.offsetBytes, range.lengthBytes);
      range = bitmap.nextDirtyRange(range.offsetBytes + range.lengthBytes, to);
    }
  }

  /** Resolves when the request may go on. */
  async #await(copying: Promise<void>, offsetBytes: number): Promise<void> {
    try {
      await this.#unlessLetGo(copying, offsetBytes);
    } catch (error) {
      if (this.#isOff || this.#isBroken) return;
      if (this.#options.policy === 'break-guest-write') throw error;
      this.#break(error, offsetBytes);
    }
  }

  #break(cause: unknown, offsetBytes: number): void {
    this.#isBroken = true;
    const error = new FailedError('snapshot-broken', 'old content could not be saved before the guest changed it', {
      object: this.name,
      offsetBytes,
      cause,
      advice: 'The guest was let go on. Start again once what is named as the cause is mended.',
    });
    this.#options.onBroken?.(error);
    for (const letGo of [...this.#waiting]) letGo();
  }

  /** As `copying`; resolves when the filter is broken or turned off meanwhile, rejects when the time is up. */
  #unlessLetGo(copying: Promise<void>, offsetBytes: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const ended = new AbortController();
      const end = (settle: () => void) => {
        this.#waiting.delete(letGo);
        ended.abort();
        settle();
      };
      const letGo = () => end(resolve);
      this.#waiting.add(letGo);
      copying.then(letGo, (error: unknown) => end(() => reject(error)));
      const { timeout } = this.#options;
      timeout?.clock.sleep(timeout.millis, ended.signal).then(
        () => end(() => reject(this.#tooSlow(timeout.millis, offsetBytes))),
        () => {},
      );
    });
  }

  #tooSlow(millis: number, offsetBytes: number): FailedError {
    return new FailedError('copy-timeout', `old content was not saved within ${millis} ms`, {
      object: this.name,
      offsetBytes,
      advice: 'Look whether the target of the backup is slow or stuck.',
    });
  }
}
