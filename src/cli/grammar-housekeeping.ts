// SPDX-License-Identifier: MIT
// The commands that keep house in a datastore, with their arguments and flags.

import type { Command } from 'commander';
import type { Action } from './program.js';

export function defineHousekeeping(program: Command, action: Action): void {
  const forget = program.command('forget').description('remove backups; gc frees their space');
  forget.argument('<backup...>', 'the backups');
  action(forget, () => import('./commands/forget.js'), all);
  const protect = program.command('protect').description('protect backups from forget and prune');
  protect.argument('<backup...>', 'the backups').option('--off', 'take their protection away');
  action(protect, () => import('./commands/protect.js'), all);
  definePrune(program, action);
  defineGc(program, action);
}

function definePrune(program: Command, action: Action): void {
  const command = program
    .command('prune')
    .description('remove backups that no rule keeps, and say of each why it stays or goes')
    .argument('[guest...]', 'only those of these guests (default: all)')
    .option('--keep-last <n>', 'keep the newest N backups of each guest')
    .option('--keep-hourly <n>', 'keep the newest of each of the last N hours with backups')
    .option('--keep-daily <n>', 'and of the last N days')
    .option('--keep-weekly <n>', 'and of the last N weeks, of ISO 8601: from Monday')
    .option('--keep-monthly <n>', 'and of the last N months')
    .option('--keep-yearly <n>', 'and of the last N years')
    .option('--keep-all', 'keep all')
    .option('--dry-run', 'only print what would be done')
    .option('--wait [=seconds]', 'wait while somebody else works on a guest (default: forever)')
    .addHelpText(
      'after',
      `
The rules are those of Proxmox, applied in this order. Each keeps the newest backup of each of N periods that
have backups, and passes over periods of which an earlier rule keeps one. Periods are of the time zone of this
host (TZ). Protected and damaged backups stay, and do not count.`,
    );
  action(command, () => import('./commands/prune.js'), all);
}

function defineGc(program: Command, action: Action): void {
  const gc = program
    .command('gc')
    .description('free the space of what no backup needs, while backups and restores go on')
    .option('--dry-run', 'say what would be done, and do nothing')
    .option('--max-unused <percent>', 'leave at most so much of what is kept unused (default: 10%)')
    .option('--workers <number>', 'threads (default: one a core)');
  action(
    gc,
    () => import('./commands/gc.js'),
    () => undefined,
  );
}

function all(words: readonly string[]): readonly string[] {
  return words;
}
