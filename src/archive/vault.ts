// SPDX-License-Identifier: MIT
// What the sink needs of the place that it writes to: a datastore, or one archive file. Everything about dedup, packs and
// commit is behind it; everything about clusters, maps and frames is before it.

import type { HashName } from '../../formats/vmar/hash.js';
import type { Manifest } from '../../formats/vmar/manifest.js';
import type { BackupDescription } from '../plugin-api.js';
import type { FrameOutput } from './frame-builder.js';
import type { MapReader } from './map-reader.js';

/** What the vault itself fills into a manifest. */
export type ManifestDraft = Omit<
  Manifest,
  'packs' | 'writerId' | 'writer' | 'storeUuid' | 'sequence' | 'previousDigest' | 'finishedMillis'
>;

export interface VaultBegin {
  /** The backup's time, made unique for its guest. */
  readonly timeSeconds: number;
  /** For each disk of the description: the map of the same disk in the parent, where it has the same geometry. */
  readonly parents: readonly (MapReader | undefined)[];
}

export interface Vault {
  readonly hash: HashName;
  readonly clusterSizeBytes: number;
  readonly fanout: number;
  /** For what does not fit in memory; removed with the vault. */
  readonly scratchDirectory: string;
  /** Frames of data chunks, and frames of map pages. */
  readonly dataFrames: FrameOutput;
  readonly mapFrames: FrameOutput;

  begin(backup: BackupDescription): Promise<VaultBegin>;
  /**
   * Whether the chunk needs no storing: it is in a pack, checked against that pack's own table, or was noted before.
   * Called for every cluster that changed; must be quick.
   */
  has(id: Uint8Array): boolean;
  /** Whether a chunk that the parent has is known to be damaged there: it is not taken over, and stored unless `has` says. */
  isLost(id: Uint8Array): boolean;
  /** Says that the chunk is on its way to `dataFrames` or `mapFrames`. */
  note(id: Uint8Array): void;
  /** Says that chunks or pages of the parent stand in the new maps. */
  noteParent(): void;
  /** Makes all frames and the manifest durable, then the backup visible. Returns its name. */
  commit(draft: ManifestDraft): Promise<string>;
  /** Leaves nothing visible behind. */
  abort(): Promise<void>;
}
