// SPDX-License-Identifier: MIT
// The pages lead to each other: every link has its file, in the npm package too.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';

const inFolders = (folder: string, page: string): string[] =>
  readdirSync(folder)
    .map((name) => join(folder, name, page))
    .filter((path) => existsSync(path));
const pages = [
  ...['README.md', 'CHANGELOG.md'],
  ...readdirSync('docs').map((name) => join('docs', name)),
  ...inFolders('plugins', 'README.md'),
  ...inFolders('formats', 'SPEC.md'),
];
const links = pages.flatMap((page) =>
  [...readFileSync(page, 'utf8').matchAll(/\]\(([^)#]+)(?:#[^)]*)?\)/g)]
    .map(([, target = '']) => target)
    .filter((target) => !target.includes('://'))
    .map((target) => ({ page, path: join(dirname(page), target) })),
);

describe('links of the pages', () => {
  it('lead somewhere', () => {
    expect(links.length).toBeGreaterThan(20);
    expect(links.filter(({ path }) => !existsSync(path))).toEqual([]);
  });

  it('lead somewhere in the package of npm, which has all pages', () => {
    const { files } = JSON.parse(readFileSync('package.json', 'utf8'));
    const isPacked = (path: string): boolean => files.some((entry: string) => fits(entry, path));
    expect(pages.filter((page) => !isPacked(page))).toEqual([]);
    expect(links.filter(({ path }) => !isPacked(path))).toEqual([]);
  });
});

/** An entry is a file, all of a folder, or has a * for a name. */
function fits(entry: string, path: string): boolean {
  const pattern = entry.replaceAll('.', '\\.').replaceAll('*', '[^/]+');
  return new RegExp(`^${pattern}(/|$)`).test(path);
}
