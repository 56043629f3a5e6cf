// SPDX-License-Identifier: MIT
// The commands about nightly jobs, with their arguments and flags.

import type { Command } from 'commander';
import type { Action } from './program.js';

export function defineJobs(program: Command, action: Action): void {
  const job = program.command('job').description('run nightly jobs, and look at them');
  const run = withConfig(job.command('run').description('run jobs of the configuration now, one after another'))
    .argument('[name...]', 'jobs of the configuration')
    .option('--all', 'all jobs')
    .option('--log <file>', 'a line of JSON for each event; - for standard error (default: what log in the file says)')
    .option('--metrics <file>', 'also write how jobs went, for the node exporter of Prometheus')
    .addHelpText(
      'after',
      `
One guest's failure does not stop the others. Exits with 1 if anything failed. What happened is kept in the
datastore: \`vmar job history\`.`,
    );
  action(run, () => import('./commands/job-run.js'), all);
  const check = withConfig(job.command('check').description('check the configuration, and what it names on this host'));
  action(
    check,
    () => import('./commands/job-check.js'),
    () => undefined,
  );
  const list = withConfig(job.command('list').description('print the jobs, when each runs next, and how it went last'));
  action(
    list,
    () => import('./commands/job-list.js'),
    () => undefined,
  );
  const history = withConfig(job.command('history').description('print the runs of jobs, the newest last'))
    .argument('[name...]', 'only those of these jobs')
    .option('--last <n>', 'at most so many (default: 20)')
    .option('--guests', 'and what became of each guest');
  action(history, () => import('./commands/job-history.js'), all);
  const timers = withConfig(job.command('install-timers').description('write a systemd service and timer for each job'))
    .option('--directory <dir>', 'where to (default: /etc/systemd/system)')
    .option('--user', "for the user's own systemd (default directory: ~/.config/systemd/user)")
    .option('--dry-run', 'only print what would be written')
    .option('--uninstall', 'take out those of this configuration')
    .addHelpText(
      'after',
      `
Jobs without a schedule have none. Units of jobs that the configuration has no more are taken out. systemd is not
told: the commands that do it are printed.`,
    );
  action(
    timers,
    () => import('./commands/job-install-timers.js'),
    () => undefined,
  );
}

export function withConfig(command: Command): Command {
  return command.option(
    '--config-file <file>',
    'the configuration (default: VMAR_CONFIG, or /etc/vmar/vmar.yaml); docs/JOBS.md',
  );
}

function all(words: readonly string[]): readonly string[] {
  return words;
}
