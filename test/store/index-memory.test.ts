// SPDX-License-Identifier: MIT

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ChunkIndex } from '#vmar/src/store/chunk-index.js';
import { trimMap } from '#vmar/src/store/index-memory.js';
import { sampleTable } from './samples.js';
import { temporaryDirectory } from './temporary-directory.js';

/** KiB of the file's map that are resident. */
function residentOf(path: string): number {
  const lines = readFileSync('/proc/self/smaps', 'utf8').split('\n');
  const at = lines.findIndex((line) => line.endsWith(` ${path}`));
  const resident = lines.slice(at).find((line) => line.startsWith('Rss:'));
  return Number(/\d+/.exec(resident ?? '')?.[0]);
}

describe('trimMap', () => {
  it('lets go of the pages, and the index works on', async () => {
    const directory = temporaryDirectory();
    const index = await ChunkIndex.openTemporary(directory);
    const table = sampleTable('a', 20000);
    await index.addPack(table.packId, table.footerSeal, [table.entries]);
    const findAll = () => table.ids.filter((id) => index.get(id)?.packId === table.packId).length;
    expect(findAll()).toBe(20000);
    const data = join(directory, 'index', 'data.mdb');
    expect(residentOf(data)).toBeGreaterThan(500);
    trimMap(data, 0);
    expect(residentOf(data)).toBeLessThan(100);
    expect(findAll()).toBe(20000);
    trimMap(data, Number.MAX_SAFE_INTEGER);
    expect(residentOf(data)).toBeGreaterThan(500);
    trimMap(join(directory, 'none'), 0);
    await index.close();
  });
});
