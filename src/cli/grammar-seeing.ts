// SPDX-License-Identifier: MIT
// The commands that look at a datastore as a whole, with their arguments and flags.

import type { Command } from 'commander';
import type { Action } from './program.js';

const METRICS = ['--metrics <file>', 'also write the figures there, for the node exporter of Prometheus'] as const;
const CONFIG = [
  '--config-file <file>',
  'the configuration of nightly jobs (default: VMAR_CONFIG, or /etc/vmar/vmar.yaml if it is there)',
] as const;

export function defineSeeing(program: Command, action: Action): void {
  const status = program.command('status').description('print of each guest how old its last good backup is');
  status
    .argument('[guest...]', 'only these (default: all)')
    .option('--max-age <span>', 'exit with 1 if that of any guest is older: 90min, 26h, 30d')
    .option(...CONFIG)
    .option(...METRICS)
    .addHelpText(
      'after',
      `
With a configuration of nightly jobs, a guest is overdue as well when a run of its job is missing, six hours after its
time, or before where the next run is sooner; or when it is older than the job's max-age. It exits with 1 then.`,
    );
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
  const report = program.command('report').description('write a page that shows how the backups stand');
  report
    .requiredOption('--html <file>', 'the file: one page that needs nothing else')
    .option('--days <number>', 'how many nights the calendar and the pictures show (default: 30)')
    .option('--max-age <span>', 'say that a guest is overdue if its last good backup is older')
    .option(...CONFIG);
  action(
    report,
    () => import('./commands/report.js'),
    () => undefined,
  );
}

function all(words: readonly string[]): readonly string[] {
  return words;
}
