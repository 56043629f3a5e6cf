// SPDX-License-Identifier: MIT
// Every command with its arguments and flags. Values stay text here; the command's own module checks them.

import type { Command } from 'commander';
import { defineHousekeeping } from './grammar-housekeeping.js';
import { defineJobs } from './grammar-jobs.js';
import { defineSeeing } from './grammar-seeing.js';
import type { Action } from './program.js';

export function defineCommands(program: Command, action: Action): void {
  program
    .description('Deduplicated, verifiable backups of virtual machines.')
    .usage('[options] COMMAND')
    .addHelpText(
      'after',
      `
BACKUP is a full id (vm/100/2026-11-21T02:00:00Z), a unique beginning of one, 100 or 100/latest
for the newest of guest 100, or an archive file (ends in .vmar, or starts with /, ./ or ../).
list, show, verify and restore take a .vma file of Proxmox, too (.zst, .gz and .lzo as well).
Sizes take KiB, MiB, GiB and TiB. "vmar COMMAND --help" tells more.

Environment:
  VMAR_DATASTORE  the datastore
  VMAR_CONFIG     the configuration of nightly jobs
  VMAR_CACHE_DIR  where the chunk index lies, a cache that may be removed (default: /var/cache/vmar
                  for root, else vmar in XDG_CACHE_HOME, else in HOME/.cache)
  TMPDIR          for sockets and scratch files (default: /tmp)
  NO_COLOR, TERM  no colours where the first is not empty or the second is dumb; then no bars either`,
    );
  defineInit(program, action);
  defineBackup(program, action);
  defineLooks(program, action);
  defineVerify(program, action);
  const restore = program
    .command('restore')
    .description('write disks of a backup to files, block devices or NBD servers');
  action(defineRestore(restore), () => import('./commands/restore.js'), only);
  defineServe(program, action);
  defineImport(program, action);
  defineExport(program, action);
  defineHousekeeping(program, action);
  defineJobs(program, action);
  defineSeeing(program, action);
}

/** Without --live it is `vmar restore`. */
export function defineVmaRestore(program: Command, action: Action): void {
  program.description('Restores a guest: its disks to files or block devices, with --live while it runs on them.');
  program.usage('[options] <backup>');
  defineRestore(program)
    .option('--live', 'export the disks at once, writable, and restore them while the guest runs')
    .option('--socket <path>', 'with --live: the NBD socket that the guest connects to')
    .option('--state <file>', 'with --live: where to keep what is restored (default: TARGET.vmar-live)')
    .option('--speed <size>', 'with --live: fill with at most so many bytes a second (default: no limit)')
    .option('--exit-when-done', 'with --live: end when all is restored, also while a guest is connected')
    .option(
      '--qmp <socket>',
      'with --live: when all is restored, move the guest of this monitor to the targets, and end',
    )
    .option('--libvirt <domain>', 'the same, where libvirt has the monitor')
    .addHelpText(
      'after',
      `
With --live the same command goes on after a crash or a kill. The state of a block device is kept in
/var/lib/vmar/restore; with several disks, --state FILE stands for FILE.NAME of each.`,
    );
  action(program, () => import('./commands/vma-restore.js'), only);
}

function defineInit(program: Command, action: Action): void {
  const command = program
    .command('init')
    .description('make a datastore')
    .argument('<dir>', 'an empty directory, or one to be made')
    .option('--cluster-size <size>', 'the unit of reading and deduplication, 64KiB to 4MiB (default: 64KiB)')
    .option('--hash <name>', 'blake3 or sha256 (default: blake3)');
  action(command, () => import('./commands/init.js'), only);
}

function defineBackup(program: Command, action: Action): void {
  const command = program
    .command('backup')
    .description('back up disk images')
    .argument('<guest>', '100, vm/100, or NAMESPACE/vm/100')
    .option('--disk <name=image>', 'a disk: an image file, a block device or an NBD URI; once for each disk', collect)
    .option('--config <file>', "a configuration file to keep with it, under the file's name; repeatable", collect)
    .option(
      '--blob <file>',
      'firmware variables or the state of a TPM, kept as it is; [NAME=]FILE, repeatable',
      collect,
    )
    .option(
      '--output <file>',
      'write FILE.vmar, FILE.vma, into a directory, or to standard output (-), not into the datastore',
    )
    .option('--format <format>', 'of the output: vmar or vma (default: as the name of the file ends)')
    .option('--speed <size>', 'read at most so many bytes a second (default: no limit)')
    .option('--level <number>', 'of zstd, 1 to 22 (default: 1)')
    .option('--time <epoch>', "the backup's time, seconds since 1970 (default: now)")
    .option('--label <key=value>', 'a label; repeatable', collect)
    .option('--wait [=seconds]', 'wait while another backup of the guest runs (default: forever)')
    .option('--min-free <size>', 'stop before less than so much is free where the datastore lies')
    .option('--force-share', 'read images although another process has them locked')
    .option('--workers <number>', 'threads (default: one a core)')
    .option('--qmp <socket>', 'back up the running guest whose QEMU has this monitor')
    .option('--libvirt <domain>', 'the same, where libvirt has the monitor')
    .option('--agent <socket>', "the guest agent's socket: freeze the guest's file systems for the moment")
    .option('--fleece <dir>', 'where the guest puts aside what it changes meanwhile (default: /var/tmp)')
    .option('--include <name>', 'only this disk of the guest; repeatable', collect)
    .option('--exclude <name>', 'not this disk of the guest; repeatable', collect)
    .option('--paranoid', 'read all of the disks though a bitmap says what changed')
    .option(
      '--bitmap <name=bitmap:mode>',
      "an NBD export's dirty bitmap; mode: new, or reuse to read only changes",
      collect,
    )
    .option(
      '--parent <backup>',
      'with --bitmap …:reuse: the backup that the bitmaps follow; fails if it is not the latest',
    )
    .option(
      '--discard-source',
      'discard what was read at the NBD server; for snapshots with fleecing, destroys all else',
    );
  action(command, () => import('./commands/backup.js'), only);
}

function defineLooks(program: Command, action: Action): void {
  const list = program.command('list').description('list backups, the newest last');
  list.argument('[guest]', 'only those of this guest; or an archive file');
  action(
    list,
    () => import('./commands/list.js'),
    (words) => words[0],
  );
  const show = program
    .command('show')
    .description('print all that is known of a backup')
    .argument('<backup>')
    .option('--config <name>', 'print this configuration file of it instead, as it was');
  action(show, () => import('./commands/show.js'), only);
  const notes = program
    .command('notes')
    .description('print or change the notes of a backup')
    .argument('<backup>')
    .option('--set <text>', 'these instead; "" for none');
  action(notes, () => import('./commands/notes.js'), only);
  const diff = program.command('diff').description('print what changed between two backups of a guest');
  diff.argument('<a>', 'a backup').argument('<b>', 'another');
  action(
    diff,
    () => import('./commands/diff.js'),
    (words) => ({ a: words[0]!, b: words[1]! }),
  );
}

function defineVerify(program: Command, action: Action): void {
  const command = program
    .command('verify')
    .description('check backups, by default all of the datastore, every byte')
    .argument('[backup...]', 'only these')
    .option('--quick', 'all but the data: headers, tables, maps, manifests, and that nothing is missing')
    .option('--portable', 'check ids a second time, by an independent implementation of the hash (slow)')
    .option('--older-than <span>', 'only what was not verified for so long, the longest unread first: 30d, 12h')
    .option('--budget <span>', 'begin nothing more after so long, and say what is left for the next run: 2h')
    .option('--list', 'read nothing: print when each pack was last read whole, and by which backups it is needed')
    .option('--workers <number>', 'threads (default: one a core)')
    .addHelpText(
      'after',
      `
With --list, BACKUP may be a pack too, by its id or its file; then all backups that need it are printed. --older-than
leaves packs out that were read since.`,
    );
  action(command, () => import('./commands/verify.js'), all);
}

function defineRestore(command: Command): Command {
  return command
    .argument('<backup>', 'the backup, or an archive file; - for a .vma file through standard input')
    .option('--to <dir>', 'write all disks as NAME.raw, blobs and the configuration files there; made if missing')
    .option('--disk <name=target>', 'write this disk to a file, block device or NBD URI; repeatable', collect)
    .option('--skip <name>', 'with --to: leave this disk out; repeatable', collect)
    .option('--overwrite', 'write over files that exist, and to block devices')
    .option('--target-is-zero', 'the target reads as zeros already: do not write zeros')
    .option('--allow-damaged', 'go on where the backup is damaged, with zeros; exits with 3 all the same')
    .option('--workers <number>', 'threads (default: one a core)');
}

function defineServe(program: Command, action: Action): void {
  const command = program
    .command('serve')
    .description('offer the disks of a backup over NBD, for reading only, until it is stopped')
    .argument('<backup>', 'the backup')
    .option('--socket <path>', 'listen on a socket in the file system, of mode 0600')
    .option('--disk <name>', 'offer only this disk; repeatable', collect)
    .option('--listen <address:port>', 'listen on the network; without TLS only on this machine itself')
    .option('--tls-cert <file>', 'the certificate to show there, in PEM')
    .option('--tls-key <file>', 'its key')
    .option('--tls-ca <file>', 'take only clients with a certificate of this authority')
    .option('--tls-psk <file>', 'or shared keys, NAME:HEXKEY a line')
    .option('--allow-plain', 'listen without TLS on any address: everyone who reaches it reads the disks')
    .option('--exit-when-idle', 'end when the last client has left')
    .option('--exit-with-parent', 'end when standard input is closed, as when the program that holds it ends')
    .option('--workers <number>', 'threads (default: one a core)');
  action(command, () => import('./commands/serve.js'), only);
}

function defineImport(program: Command, action: Action): void {
  const command = program
    .command('import')
    .description('make backups of .vma files (also .zst, .gz, .lzo), of .vmar archives, and of tars of ours')
    .argument('<file...>', 'files, directories of them, or - for standard input')
    .option('--guest <guest>', "the guest: 100, or NAMESPACE/vm/100 (default: what vzdump's file names say)")
    .option('--time <epoch>', "the backup's time, seconds since 1970 (default: by file name or header)")
    .option('--level <number>', 'of zstd, 1 to 22 (default: 1)')
    .option('--wait [=seconds]', 'wait while another backup of the guest runs (default: forever)')
    .option('--workers <number>', 'threads (default: one a core)');
  action(command, () => import('./commands/import.js'), all);
}

function defineExport(program: Command, action: Action): void {
  const command = program
    .command('export')
    .description('write a backup as an archive that stands alone')
    .argument('<backup>', 'the backup')
    .option('--output <file>', 'the file, a directory to put it in, or - for standard output')
    .option('--format <format>', 'vmar, vma or tar (default: as the name of the file ends)')
    .option('--level <number>', 'of zstd, 1 to 22: compress a .vmar archive anew (default: frames as they are stored)')
    .option('--workers <number>', 'threads (default: one a core)');
  action(command, () => import('./commands/export.js'), only);
}

function collect(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), value];
}

function only(words: readonly string[]): string {
  return words[0]!;
}

function all(words: readonly string[]): readonly string[] {
  return words;
}
