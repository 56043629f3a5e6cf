// SPDX-License-Identifier: MIT
// A sequence of packs of one content: opens a new one when the current is full, and publishes full ones in the
// background while the next is written.

import type { ContainerWriter, FramePart } from './container-writer.js';
import { ExtentStream } from './extent-stream.js';

/** A pack is closed at about this size … */
export const PACK_BYTES = 128 << 20;
/** … or at this many chunks, so that its tables stay small however well it compresses. */
export const PACK_CHUNKS = 65536 - 8192;
/** Full packs that may be on their way to the disk while the next is written. */
const PUBLISHING = 2;

/** A pack under way in tmp/. */
export interface OpenPack {
  readonly id: Uint8Array;
  readonly container: ContainerWriter;
  /** Where it lies until it is published. */
  readonly temporaryPath: string;
}

/** What the packs need of their datastore. */
export interface PackPlace {
  create(content: 1 | 2): Promise<OpenPack>;
  /** Makes the pack durable and findable under its final name; its file is closed in any case. */
  publish(pack: OpenPack): Promise<void>;
}

/**
 * Takes frames in order; calls must not overlap. After a rejection only `abandon` may be called.
 * Once `finish` resolves all packs are published.
 */
export class PackStream {
  readonly #place: PackPlace;
  readonly #content: 1 | 2;
  #current: { pack: OpenPack; extents: ExtentStream } | undefined;
  readonly #publishing = new Set<Promise<void>>();
  #failure: unknown;
  readonly ids: Uint8Array[] = [];

  constructor(place: PackPlace, content: 1 | 2) {
    this.#place = place;
    this.#content = content;
  }

  /** Takes a frame; `release` is called once its bytes are no longer needed, also after a failure. */
  async add(part: FramePart, release: () => void): Promise<void> {
    try {
      await this.#ready();
    } catch (error) {
      release();
      throw error;
    }
    const { extents } = this.#current!;
    await extents.add(this.#content, part, release);
    if (extents.storedBytes >= PACK_BYTES || extents.chunkCount >= PACK_CHUNKS) await this.#roll();
  }

  async #ready(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#current !== undefined) return;
    const pack = await this.#place.create(this.#content);
    this.ids.push(pack.id);
    this.#current = { pack, extents: new ExtentStream(pack.container) };
  }

  async #roll(): Promise<void> {
    const current = this.#current;
    if (current === undefined) return;
    await current.extents.flush();
    while (this.#publishing.size >= PUBLISHING) await Promise.race(this.#publishing);
    if (this.#failure !== undefined) throw this.#failure;
    this.#current = undefined;
    const done = this.#place.publish(current.pack).catch((error: unknown) => {
      this.#failure ??= error;
    });
    this.#publishing.add(done);
    void done.finally(() => this.#publishing.delete(done));
  }

  /** Appends a manifest as an extent of its own to the last pack, opening one if there is none. */
  async addManifest(part: FramePart): Promise<void> {
    await this.#ready();
    await this.#current!.extents.addWhole(3, part);
  }

  /** The id of the pack that the next frame goes to; opens it if there is none. */
  async currentId(): Promise<Uint8Array> {
    await this.#ready();
    return this.#current!.pack.id;
  }

  async finish(): Promise<void> {
    await this.#roll();
    await Promise.all(this.#publishing);
    if (this.#failure !== undefined) throw this.#failure;
  }

  async abandon(): Promise<void> {
    await Promise.all(this.#publishing);
    await this.#current?.extents.abandon();
    this.#current = undefined;
  }
}
