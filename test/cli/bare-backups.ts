// SPDX-License-Identifier: MIT
// Backups that are manifests and nothing else: enough for what looks at times only, and quick to make.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { encodeSidecar } from '#vmar/formats/vmar/sidecar.js';
import { parseBackupId } from '#vmar/src/store/backup-id.js';
import { manifestPath, sidecarPath } from '#vmar/src/store/layout.js';
import { manifestBytes } from '../store/samples.js';

function refOf(id: string) {
  const ref = parseBackupId(id);
  if (ref === undefined) throw new Error(id);
  return ref;
}

export function makeBackups(store: string, ids: readonly string[]): void {
  for (const id of ids) {
    const ref = refOf(id);
    mkdirSync(dirname(manifestPath(store, ref)), { recursive: true });
    writeFileSync(manifestPath(store, ref), manifestBytes(ref));
  }
}

export function protect(store: string, id: string): void {
  const ref = refOf(id);
  const manifestDigest = readFileSync(manifestPath(store, ref)).subarray(-32);
  const labels = new Map([['a', 'b']]);
  writeFileSync(
    sidecarPath(store, ref),
    encodeSidecar({ manifestDigest, labels, notes: '', isProtected: true }, 'blake3'),
  );
}

export function damage(store: string, id: string, what: 'manifest' | 'sidecar'): string {
  const path = what === 'manifest' ? manifestPath(store, refOf(id)) : sidecarPath(store, refOf(id));
  const bytes = readFileSync(path);
  bytes[60]! ^= 1;
  writeFileSync(path, bytes);
  return path;
}
