// SPDX-License-Identifier: MIT
// The open packs of a datastore: opened on first use, at most so many at a time.

import { bytesEqual, toHex } from '../base/bytes.js';
import { DamageError } from '../base/errors.js';
import { ContainerReader } from './container-reader.js';
import { packPath } from './layout.js';

const OPEN_PACKS = 512;

export class PackSet {
  readonly #root: string;
  /** By id in hex; the least recently used first. */
  readonly #open = new Map<string, ContainerReader>();

  constructor(root: string) {
    this.#root = root;
  }

  /**
   * The pack, its header and footer checked, and that it is the one its name says.
   * @throws NotFoundError if it is gone, DamageError if it is damaged.
   */
  open(id: Uint8Array): ContainerReader {
    const name = toHex(id);
    const open = this.#open.get(name);
    if (open !== undefined) {
      this.#open.delete(name);
      this.#open.set(name, open);
      return open;
    }
    const reader = ContainerReader.open(packPath(this.#root, name));
    if (!bytesEqual(reader.header.containerId, id)) {
      reader.close();
      throw new DamageError('pack-name', 'a pack lies under the name of another', {
        object: reader.path,
        expected: name,
        found: toHex(reader.header.containerId),
      });
    }
    this.#open.set(name, reader);
    if (this.#open.size > OPEN_PACKS) this.#closeOldest();
    return reader;
  }

  #closeOldest(): void {
    const oldest = this.#open.entries().next();
    if (oldest.done) return;
    const [name, reader] = oldest.value;
    this.#open.delete(name);
    reader.close();
  }

  /** Closes one pack; it may be opened again. */
  close(id: Uint8Array): void {
    const name = toHex(id);
    this.#open.get(name)?.close();
    this.#open.delete(name);
  }

  closeAll(): void {
    for (const reader of this.#open.values()) reader.close();
    this.#open.clear();
  }
}
