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
  defineCopy(program, action);
  defineDrill(program, action);
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
    .option('--abandon-session <id>', 'wait no more for a command whose machine is gone for good; repeatable', collect)
    .option('--workers <number>', 'threads (default: one a core)');
  action(
    gc,
    () => import('./commands/gc.js'),
    () => undefined,
  );
}

function defineCopy(program: Command, action: Action): void {
  const copy = program
    .command('copy')
    .description('copy backups to another datastore, or from one: only what the other side lacks')
    .argument('[backup...]', 'the backups')
    .option('--to <dir>', 'the datastore that they go to')
    .option('--from <dir>', 'or the datastore that they come from')
    .option('--guest <guest>', 'all backups of this guest that the other side lacks; repeatable', collect)
    .option('--all', 'all backups that the other side lacks')
    .option('--dry-run', 'say what would be copied, and copy nothing')
    .option('--min-free <size>', 'stop before less than so much is free there')
    .option('--level <number>', 'of zstd, 1 to 22, for what is compressed anew (default: 1)')
    .option('--wait [=seconds]', 'wait while somebody else works on a guest there (default: forever)')
    .option('--workers <number>', 'threads (default: one a core)')
    .addHelpText(
      'after',
      `
One of the two datastores is that of --datastore. A copy that was cut off goes on when it is started again. What is
there already is not copied twice. Between datastores of different cluster size or hash, disks are read and chunked
anew, which it says. A damaged backup is named, and stops no other (exit status 3).`,
    );
  action(copy, () => import('./commands/copy.js'), all);
}

function defineDrill(program: Command, action: Action): void {
  const drill = program
    .command('drill')
    .description('try a backup: check its file systems, or boot it, without changing it or any disk')
    .argument('<backup>', 'the backup; a guest stands for its newest')
    .option('--fsck', 'check the file systems on its disks by their own tools, read-only')
    .option('--boot', 'boot it under QEMU, without a network, until a text comes up on its serial console')
    .option('--until <text>', 'with --boot: the text, such as "login:"')
    .option('--disk <name>', 'only this disk; repeatable', collect)
    .option('--timeout <span>', 'fail after so long: 90s, 10min (default: 10min with --boot)')
    .option('--memory <size>', 'of the guest (default: 1GiB)')
    .option('--cpus <number>', 'of the guest (default: 2)')
    .option('--bus <bus>', 'of its disks: scsi, virtio, sata or ide (default: as their names say, else virtio)')
    .option('--firmware <file>', "the guest's firmware, such as OVMF (default: QEMU's BIOS)")
    .option('--allow-mount', 'with --fsck: mount what wants that for its log (XFS), in this host: trust the guest')
    .option('--work-dir <dir>', 'where what the drill writes lies meanwhile (default: TMPDIR)')
    .option('--no-report', 'do not keep a report of it in the datastore')
    .option('--workers <number>', 'threads (default: one a core)')
    .addHelpText(
      'after',
      `
Nothing is restored: what is read is read from the backup, and what is written goes to a scratch file. A partition that
cannot be checked is named. The exit status is 1 if the drill fails, or could check nothing, and 3 if it met damage.`,
    );
  action(drill, () => import('./commands/drill.js'), only);
}

function only(words: readonly string[]): string {
  return words[0]!;
}

function collect(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), value];
}

function all(words: readonly string[]): readonly string[] {
  return words;
}
