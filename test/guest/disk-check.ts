// SPDX-License-Identifier: MIT
// Looks at the guest's disks from outside, when nobody uses them.

import { tool } from './tool.js';

export interface DiskFiles {
  readonly root: string;
  readonly data: string;
}

/**
 * How the file systems were left: `clean` needs nothing, of `crashed` the journal is replayed first. After that nothing at
 * all may be wrong with them.
 */
export function checkFileSystems(files: DiskFiles, left: 'clean' | 'crashed'): void {
  for (const path of [files.root, files.data]) {
    if (left === 'crashed') tool('e2fsck', ['-E', 'journal_only', '-y', path], { allowed: [1] });
    tool('e2fsck', ['-f', '-n', path]);
  }
}

/** What a file holds. */
export function readGuestFile(image: string, path: string): Buffer {
  const { stdout, text } = tool('debugfs', ['-R', `cat ${path}`, image]);
  if (/File not found/.test(text)) throw new Error(`no ${path} in ${image}`);
  return stdout;
}

/**
 * Both disks show one moment: all that was acknowledged by `least` is there, nothing is missing in between, and what is on
 * the root disk is on the data disk, where it was written first. Gives the last number.
 */
export function checkLedger(files: DiskFiles, least: number, most = Number.MAX_SAFE_INTEGER): number {
  const root = numbers(readGuestFile(files.root, '/var/ledger'));
  const data = numbers(readGuestFile(files.data, '/ledger'));
  if (root < least || root > most) throw new Error(`the ledger ends with ${root}, not in ${least}…${most}`);
  if (data !== root && data !== root + 1)
    throw new Error(`two moments: ${data} on the data disk, ${root} on the other`);
  return root;
}

/** 1, 2, 3 … to the last. A line that was being written counts as not there. */
function numbers(file: Buffer): number {
  const lines = file.toString().split('\n');
  lines.pop();
  const wrong = lines.findIndex((line, at) => line !== String(at + 1));
  if (wrong !== -1) throw new Error(`line ${wrong + 1} of the ledger is ${JSON.stringify(lines[wrong])}`);
  return lines.length;
}
