// SPDX-License-Identifier: MIT
// The commands that look at a datastore as a whole, with their arguments and flags.

import type { Command } from 'commander';
import type { Action } from './program.js';

const METRICS = ['--metrics <file>', 'also write the figures there, for the node exporter of Prometheus'] as const;

export function defineSeeing(program: Command, action: Action): void {
  const status = program.command('status').description('print of each guest how old its last good backup is');
  status
    .argument('[guest...]', 'only these (default: all)')
    .option('--max-age <span>', 'exit with 1 if that of any guest is older: 90min, 26h, 30d')
    .option(...METRICS);
  action(status, () => import('./commands/status.js'), all);
  const stats = program.command('stats').description('print what the backups of each guest take, and how they grew');
  stats
    .argument('[guest...]', 'only these (default: all)')
    .option('--by <period>', 'how to count over time: day, week, month or year (default: day)')
    .option(...METRICS)
    .addHelpText(
      'after',
      `
size: lengths of the disks. logical: what of them is not zero, in all backups. unique: of that each chunk once.
stored: what these take, compressed. ratio: logical for each byte stored. alone: stored for no other guest.`,
    );
  action(stats, () => import('./commands/stats.js'), all);
}

function all(words: readonly string[]): readonly string[] {
  return words;
}
