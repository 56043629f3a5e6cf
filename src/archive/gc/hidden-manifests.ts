// SPDX-License-Identifier: MIT
// Manifests that lie where they are not found: behind a link that leads nowhere, under another name, in a directory that was
// moved. What they need would be deleted, and putting them back would be of no use.

import { lstatSync } from 'node:fs';
import { join } from 'node:path';
import { MAX_MANIFEST_BYTES } from '../../../formats/vmar/limits.js';
import { decodeManifest } from '../../../formats/vmar/manifest.js';
import { DamageError, VmarError } from '../../base/errors.js';
import { listDirectory } from '../../store/directory-entries.js';
import type { ManifestList } from '../../store/manifests.js';
import { readSmallFile } from '../../store/small-file.js';

/** @throws DamageError if there are any, as far as can be told. */
export async function refuseHidden({ strange, lost }: Pick<ManifestList, 'strange' | 'lost'>): Promise<void> {
  const [gone] = lost;
  if (gone !== undefined)
    throw refusal(gone.path, `${gone.error.message}, and backups may be missing`, 'Mount or put back');
  for (const path of strange) {
    const found = await manifestIn(path);
    if (found !== undefined)
      throw refusal(found, 'a manifest lies where none is looked for', 'Put back, or move away,');
  }
}

function refusal(object: string, problem: string, advice: string): DamageError {
  return new DamageError('hidden-manifest', `nothing is collected: ${problem}`, {
    object,
    advice: `${advice} what was there; else gc would delete what those backups need.`,
  });
}

/** The path of a manifest: the file itself, or one somewhere in the directory. Directories behind links are not entered. */
async function manifestIn(path: string): Promise<string | undefined> {
  if (lstatSync(path, { throwIfNoEntry: false })?.isDirectory() !== true) {
    return (await isManifest(path)) ? path : undefined;
  }
  for (const { name } of (await listDirectory(path)) ?? []) {
    const found = await manifestIn(join(path, name));
    if (found !== undefined) return found;
  }
  return undefined;
}

async function isManifest(path: string): Promise<boolean> {
  try {
    decodeManifest(await readSmallFile(path, MAX_MANIFEST_BYTES), path);
    return true;
  } catch (error) {
    if (error instanceof VmarError) return false;
    throw error;
  }
}
