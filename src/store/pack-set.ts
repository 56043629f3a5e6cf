// SPDX-License-Identifier: MIT
// The open packs of a datastore: opened on first use, at most so many at a time.

import { toHex } from '../base/bytes.js';
import { DamageError } from '../base/errors.js';
import { mostOpenFiles } from '../base/open-files.js';
import { ContainerReader } from './container-reader.js';
import { type PackId, packPath } from './layout.js';

const OPEN_PACKS = 512;
/** Of the files that may be open: a copy has packs of two datastores open, and there are locks, disks and the program itself. */
const SHARE_OF_OPEN_FILES = 1 / 8;

export class PackSet {
  readonly #root: string;
  readonly #mostOpen = Math.max(1, Math.min(OPEN_PACKS, Math.floor(mostOpenFiles() * SHARE_OF_OPEN_FILES)));
  /** By id in hex; the least recently used first. */
  readonly #open = new Map<string, ContainerReader>();
  /** The one that was asked for last, which is the newest in `#open`. */
  #lastName = '';
  #last: ContainerReader | undefined;

  constructor(root: string) {
    this.#root = root;
  }

  /**
   * The pack, its header and footer checked, and that it is the one its name says.
   * @throws NotFoundError if it is gone, DamageError if it is damaged.
   */
  open(id: Uint8Array): ContainerReader {
    return this.openNamed(toHex(id));
  }

  /** The same by its name; for who asks millions of times. */
  openNamed(name: PackId): ContainerReader {
    if (name === this.#lastName && this.#last !== undefined) return this.#last;
    const open = this.#open.get(name) ?? this.#openAnew(name);
    this.#open.delete(name);
    this.#open.set(name, open);
    if (this.#open.size > this.#mostOpen) this.#closeOldest();
    this.#lastName = name;
    this.#last = open;
    return open;
  }

  #openAnew(name: PackId): ContainerReader {
    const reader = ContainerReader.open(packPath(this.#root, name));
    if (toHex(reader.header.containerId) !== name) {
      reader.close();
      throw new DamageError('pack-name', 'a pack lies under the name of another', {
        object: reader.path,
        expected: name,
        found: toHex(reader.header.containerId),
      });
    }
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
    this.#last = undefined;
    this.#open.get(name)?.close();
    this.#open.delete(name);
  }

  closeAll(): void {
    this.#last = undefined;
    for (const reader of this.#open.values()) reader.close();
    this.#open.clear();
  }
}
