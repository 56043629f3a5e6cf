// SPDX-License-Identifier: MIT
// Where both programs begin and end: arguments in, exit status out, and every error told on the way.

import { CommanderError } from 'commander';
import { BugError, EXIT, type ExitStatus, UsageError } from '../base/errors.js';
import { createContext } from './context.js';
import { readEnvironment } from './environment.js';
import { Interrupts } from './interrupts.js';
import { Output } from './output.js';
import { buildProgram, type CommandCall, normalise, type ProgramName } from './program.js';
import { describeError, renderError } from './render-error.js';

export async function main(program: ProgramName): Promise<void> {
  process.once('beforeExit', complain);
  process.exitCode = await run(program, process.argv.slice(2));
  process.off('beforeExit', complain);
}

/** Nothing is left to wait for, and the work is not done. */
function complain(): void {
  const error = describeError(new BugError('the program ended before its work was done'));
  process.stderr.write(`${renderError('vmar', error)}\n`);
  process.exitCode = EXIT.failed;
  process.exit();
}

async function run(program: ProgramName, words: readonly string[]): Promise<ExitStatus> {
  const output = new Output(process);
  const interrupts = new Interrupts(process, output);
  interrupts.listen();
  // Known before the words are understood, for the sake of errors in them.
  const asked = { json: isGiven(words, '--json'), verbose: isGiven(words, '--verbose') };
  let status: ExitStatus = EXIT.done;
  let command: string = program;
  const call = async ({ name, load, globals, toStandardOutput, args, flags }: CommandCall): Promise<void> => {
    command = program === name ? name : `${program} ${name}`;
    output.configure(globals);
    if (toStandardOutput) asked.json = false;
    const module = await load();
    const context = createContext({ command, globals, environment: readEnvironment(process.env), output, interrupts });
    status = await module.run(context, args, flags);
  };
  try {
    await buildProgram(program, call).parseAsync(normalise(words), { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return EXIT.done;
    status = tell(output, command, error instanceof CommanderError ? usageError(program, error) : error, asked);
  }
  return output.hasFailed && status === EXIT.done ? EXIT.failed : status;
}

/** Prints the error for people, or with --json for machines; the stack only with --verbose. */
function tell(
  output: Output,
  command: string,
  error: unknown,
  asked: { readonly json: boolean; readonly verbose: boolean },
): ExitStatus {
  const described = describeError(error);
  if (asked.json) output.document({ error: described });
  else output.error(renderError(command, described));
  if (asked.verbose && error instanceof Error && error.stack !== undefined) output.error(error.stack);
  return described.exit;
}

function isGiven(words: readonly string[], flag: string): boolean {
  const end = words.indexOf('--');
  return words.slice(0, end < 0 ? words.length : end).includes(flag);
}

/** The parser's own complaints, as ours. */
function usageError(program: ProgramName, error: CommanderError): UsageError {
  const advice = `See: ${program} --help`;
  if (error.code === 'commander.help') return new UsageError('no-command', 'no command was given', { advice });
  const message = error.message
    .replace(/^error: /, '')
    .replaceAll('\n', ' ')
    .trim();
  return new UsageError('bad-arguments', message, { advice });
}
