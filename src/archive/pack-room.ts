// SPDX-License-Identifier: MIT
// Makes the packs of one backup: each grows in the session's tmp/, and is put into packs/ when it is whole.

import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { NO_FEATURES } from '../../formats/vmar/features.js';
import { SEAL_BYTES } from '../../formats/vmar/hash.js';
import { toHex } from '../base/bytes.js';
import { ContainerReader } from '../store/container-reader.js';
import { ContainerWriter } from '../store/container-writer.js';
import type { Datastore } from '../store/datastore.js';
import { systemCode } from '../store/fs.js';
import { directoryPath, packDirectory, packPath } from '../store/layout.js';
import type { OpenPack, PackPlace } from '../store/pack-stream.js';
import type { Session } from '../store/session.js';

export class PackRoom implements PackPlace {
  readonly #store: Datastore;
  readonly #session: Session;
  readonly #writerId: Uint8Array;
  readonly #onPublished: (packId: string, entries: Iterable<Uint8Array>, footerSeal: Uint8Array) => Promise<void>;
  readonly #inspect: ((path: string) => Promise<void>) | undefined;

  /**
   * `onPublished` gets the pack's sorted table, read back from the disk and checked. `inspect` may look at a whole,
   * durable pack before it gets its name, and refuse it.
   */
  constructor(
    store: Datastore,
    session: Session,
    writerId: Uint8Array,
    onPublished: (packId: string, entries: Iterable<Uint8Array>, footerSeal: Uint8Array) => Promise<void>,
    inspect?: (path: string) => Promise<void>,
  ) {
    this.#store = store;
    this.#session = session;
    this.#writerId = writerId;
    this.#onPublished = onPublished;
    this.#inspect = inspect;
  }

  async create(content: 1 | 2): Promise<OpenPack> {
    const { fs, superblock } = this.#store;
    const id = randomBytes(16);
    const temporaryPath = join(this.#session.tmpDir, `${toHex(id)}.vmar`);
    const file = await fs.createFile(temporaryPath, { direct: content === 1 });
    const header = {
      use: 'pack' as const,
      features: NO_FEATURES,
      containerId: id,
      storeUuid: superblock.storeUuid,
      writerId: this.#writerId,
      clusterSizeBytes: superblock.clusterSizeBytes,
      hash: superblock.hash,
      content: content === 1 ? ('data' as const) : ('maps' as const),
      mapFanout: superblock.mapFanout,
      createdSeconds: Math.floor(Date.now() / 1000),
    };
    const container = new ContainerWriter(file, header, { fs, directory: this.#session.tmpDir });
    try {
      await container.begin();
    } catch (error) {
      await container.abandon().catch(() => undefined);
      throw error;
    }
    return { id, container, temporaryPath };
  }

  /** Order matters: content durable, then the name, then the name durable; only then may anyone build on it. */
  async publish(pack: OpenPack): Promise<void> {
    const { fs, root } = this.#store;
    try {
      await pack.container.finish();
    } catch (error) {
      await pack.container.abandon().catch(() => undefined);
      throw error;
    }
    await this.#inspect?.(pack.temporaryPath);
    const name = toHex(pack.id);
    const directory = packDirectory(root, name);
    await this.#makeDirectory(directory);
    const path = packPath(root, name);
    await fs.rename(pack.temporaryPath, path);
    await fs.fsyncDirectory(directory);
    const reader = ContainerReader.open(path);
    try {
      await this.#onPublished(name, tablePages(reader), reader.readBytes(reader.fileBytes - SEAL_BYTES, SEAL_BYTES));
    } finally {
      reader.close();
    }
  }

  async #makeDirectory(directory: string): Promise<void> {
    const { fs, root } = this.#store;
    try {
      await fs.mkdir(directory);
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') throw error;
    }
    // Also where another process made it a moment ago and has not come to this yet.
    await fs.fsyncDirectory(directoryPath(root, 'packs'));
  }
}

function* tablePages(reader: ContainerReader): Generator<Uint8Array> {
  for (let page = 0; page < reader.chunkPageCount; page++) yield reader.chunkPage(page);
}
