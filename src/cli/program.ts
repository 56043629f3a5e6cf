// SPDX-License-Identifier: MIT
// The two programs as the parser knows them: options of all commands, help, and how a command is called. A command's
// module is loaded when it is called, so that nobody waits for code that he does not use.

import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import type { CommandModule, GlobalFlags } from './context.js';
import { EXIT_HELP } from './exit-help.js';
import { defineCommands, defineVmaRestore } from './grammar.js';

export type ProgramName = 'vmar' | 'vma-restore';

/** A command with what it was given. */
export interface CommandCall {
  readonly name: string;
  readonly load: () => Promise<CommandModule<unknown, unknown>>;
  readonly globals: GlobalFlags;
  /** Standard output is for data, not for text. */
  readonly toStandardOutput: boolean;
  readonly args: unknown;
  readonly flags: unknown;
}

export type CallCommand = (call: CommandCall) => Promise<void>;

/** Makes the action of a command: arguments are what `args` makes of the words. */
export type Action = <Arguments, Flags>(
  command: Command,
  load: () => Promise<CommandModule<Arguments, Flags>>,
  args: (words: readonly string[]) => Arguments,
) => void;

/** `--wait` takes a value only after "=": what follows it is the next argument. */
export function normalise(words: readonly string[]): string[] {
  const end = words.includes('--') ? words.indexOf('--') : words.length;
  return words.map((word, index) => (word === '--wait' && index < end ? '--wait=' : word));
}

/** Throws CommanderError instead of exiting, and prints nothing but help and version. */
export function buildProgram(name: ProgramName, call: CallCommand, print: (text: string) => void = () => {}): Command {
  const program = new Command(name)
    .exitOverride()
    .configureOutput({ writeOut: print, writeErr() {}, outputError() {} })
    .configureHelp({ showGlobalOptions: true, sortSubcommands: false })
    .version(`${name} ${packageVersion()}`, '--version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .option('--datastore <dir>', 'the datastore; by default what VMAR_DATASTORE says')
    .option('--json', 'print one JSON document on standard output')
    .option('--quiet', 'print no progress and no notices')
    .option('--verbose', 'print more, and stack traces of errors');
  const action: Action = (command, load, args) => {
    command.action(async (...values: unknown[]) => {
      const words = values.slice(0, command.registeredArguments.length).flat().filter(isText);
      const flags = command.opts();
      await call({
        name: fullName(command, program),
        load: load as () => Promise<CommandModule<unknown, unknown>>,
        globals: command.optsWithGlobals<GlobalFlags>(),
        toStandardOutput: flags.output === '-',
        args: args(words),
        flags,
      });
    });
  };
  if (name === 'vmar') defineCommands(program, action);
  else defineVmaRestore(program, action);
  addHelpCommand(program, name !== 'vmar');
  for (const group of program.commands) if (group.commands.length > 0) addHelpCommand(group, true);
  addExitHelp(program);
  return program;
}

function addHelpCommand(program: Command, hidden: boolean): void {
  program
    // That of the parser takes one word only.
    .helpCommand(false)
    .command('help', { hidden })
    .description('print the help of a command')
    .argument('[command...]')
    .action((words: readonly string[]) => helped(program, words).outputHelp());
}

/** The command that the words name: `job run`. */
function helped(command: Command, [word, ...others]: readonly string[]): Command {
  if (word === undefined) return command;
  const inner = command.commands.find((known) => known.name() === word);
  return inner === undefined ? command.error(`error: unknown command '${word}'`) : helped(inner, others);
}

function addExitHelp(command: Command): void {
  command.addHelpText('after', EXIT_HELP);
  for (const inner of command.commands) addExitHelp(inner);
}

/** "backup", "job run" */
function fullName(command: Command, program: Command): string {
  const { parent } = command;
  return parent === null || parent === program ? command.name() : `${fullName(parent, program)} ${command.name()}`;
}

function isText(value: unknown): value is string {
  return typeof value === 'string';
}

function packageVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'));
  const version = typeof manifest === 'object' && manifest !== null && 'version' in manifest ? manifest.version : '';
  return String(version);
}
