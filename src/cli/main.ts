// SPDX-License-Identifier: MIT
// Where both programs begin and end: arguments in, exit status out, and every error told on the way.

import { type Command, CommanderError } from 'commander';
import { BugError, EXIT, type ExitStatus, InterruptedError, UsageError } from '../base/errors.js';
import { exitNow } from '../base/syscalls.js';
import { createContext } from './context.js';
import { readEnvironment } from './environment.js';
import { Interrupts } from './interrupts.js';
import { Output } from './output.js';
import { buildProgram, type CommandCall, normalise, type ProgramName } from './program.js';
import { describeError, renderError } from './render-error.js';

export async function main(program: ProgramName): Promise<void> {
  const run = new Run(program, process.argv.slice(2));
  const end = (error: unknown): void => process.exit(run.tell(error));
  const endEarly = (): void => end(new BugError('the program ended before its work was done'));
  process.on('uncaughtException', end);
  process.once('beforeExit', endEarly);
  process.exitCode = await run.run();
  process.off('beforeExit', endEarly);
}

/** One call of a program. */
class Run {
  readonly #program: ProgramName;
  readonly #words: readonly string[];
  readonly #output = new Output(process);
  readonly #interrupts: Interrupts;
  /** As typed, for messages: "vmar backup". */
  #command: string;
  /** Known before the words are understood, for the sake of errors in them. */
  #json: boolean;
  readonly #verbose: boolean;
  #status: ExitStatus = EXIT.done;

  constructor(program: ProgramName, words: readonly string[]) {
    this.#program = program;
    this.#words = words;
    this.#interrupts = new Interrupts(process, this.#output, program, () => exitNow(this.tell(new InterruptedError())));
    this.#command = program;
    this.#json = isGiven(words, '--json');
    this.#verbose = isGiven(words, '--verbose');
  }

  async run(): Promise<ExitStatus> {
    this.#interrupts.listen();
    const program = buildProgram(
      this.#program,
      (call) => this.#call(call),
      (text) => this.#output.bytes(Buffer.from(text)),
    );
    try {
      await program.parseAsync(normalise(this.#words), { from: 'user' });
    } catch (error) {
      if (!(error instanceof CommanderError)) this.#status = this.tell(error);
      else if (error.exitCode !== 0) {
        this.#command = commandOf(program, this.#words);
        this.#status = this.tell(usageError(this.#command, error));
      }
    }
    return this.#output.hasFailed && this.#status === EXIT.done ? EXIT.failed : this.#status;
  }

  async #call({ name, load, globals, toStandardOutput, args, flags }: CommandCall): Promise<void> {
    if (name !== this.#program) this.#command = `${this.#program} ${name}`;
    if (toStandardOutput) this.#json = false;
    this.#output.configure(globals);
    const command = await load();
    const environment = readEnvironment(process.env);
    const [output, interrupts] = [this.#output, this.#interrupts];
    interrupts.endsWithInput = environment.endsWithInput;
    const context = createContext({ command: this.#command, globals, environment, output, interrupts });
    this.#status = await command.run(context, args, flags);
  }

  /** Prints the error for people, or with --json for machines if nothing was printed yet; the stack only with --verbose. */
  tell(error: unknown): ExitStatus {
    const described = describeError(error);
    this.#output.live?.end();
    if (this.#json && !this.#output.hasDocument) this.#output.document({ error: described });
    else this.#output.error(renderError(this.#command, described));
    if (this.#verbose && error instanceof Error && error.stack !== undefined) this.#output.error(error.stack);
    return described.exit;
  }
}

function isGiven(words: readonly string[], flag: string): boolean {
  const end = words.indexOf('--');
  return words.slice(0, end < 0 ? words.length : end).includes(flag);
}

/** "vmar job run", as far as the words have it. */
function commandOf(command: Command, words: readonly string[]): string {
  const inner = command.commands.find((known) => known.name() !== 'help' && words.includes(known.name()));
  return inner === undefined ? command.name() : `${command.name()} ${commandOf(inner, words)}`;
}

/** The parser's own complaints, as ours. */
function usageError(command: string, error: CommanderError): UsageError {
  const advice = `See: ${command} --help`;
  if (error.code === 'commander.help') return new UsageError('no-command', 'no command was given', { advice });
  const message = error.message
    .replace(/^error: /, '')
    .replaceAll('\n', ' ')
    .trim();
  return new UsageError('bad-arguments', message, { advice });
}
