// SPDX-License-Identifier: MIT
// The commands that run before and after a job and each guest, with the facts in their environment.

import type { CommandConfig, HookMoment, HooksConfig } from './config.js';
import { type Environment, type ProgramEnd, runProgram } from './program.js';
import type { OnEvent } from './run-events.js';

export interface HookCall {
  readonly moment: HookMoment;
  readonly guest?: string;
  readonly facts: Environment;
  /** Ends hooks that come before something; those that come after run to their end. */
  readonly signal?: AbortSignal;
}

/** What says more than anybody reads would fill the log, and keep the run waiting for that. */
const MOST_LINES = 1000;

export class Hooks {
  readonly #config: HooksConfig;
  readonly #env: Environment;
  readonly #onEvent: OnEvent;

  constructor(config: HooksConfig, env: Environment, onEvent: OnEvent) {
    this.#config = config;
    this.#env = env;
    this.#onEvent = onEvent;
  }

  /** Undefined once it has done its work, or if there is none; else why not. Never rejects. */
  async run({ moment, guest, facts, signal }: HookCall): Promise<string | undefined> {
    const command = this.#config.commands[moment];
    if (command === undefined) return undefined;
    const about = { moment, ...(guest === undefined ? {} : { guest }) };
    this.#onEvent({ event: 'hook-begin', ...about });
    const start = performance.now();
    const { timeoutMillis } = this.#config;
    let said = 0;
    const says = (text: string): void => this.#onEvent({ event: 'hook-says', ...about, text });
    const onLine = (text: string): void => {
      if (++said <= MOST_LINES) says(text);
    };
    const end = await runProgram({
      words: commandWords(command),
      env: { ...this.#env, VMAR_HOOK: moment, ...facts },
      ...{ timeoutMillis, killsGroup: true, onLine },
      ...(signal === undefined ? {} : { signal }),
    });
    if (said > MOST_LINES) says(`(and ${said - MOST_LINES} more lines, which are not kept)`);
    const problem = programProblem(end, timeoutMillis);
    const error = problem === undefined ? undefined : `the ${moment} hook ${problem}`;
    const seconds = Math.round(performance.now() - start) / 1000;
    this.#onEvent({ event: 'hook-end', ...about, seconds, ...(error === undefined ? {} : { error }) });
    return error;
  }
}

export function commandWords(command: CommandConfig): readonly string[] {
  return command.kind === 'words' ? command.words : ['/bin/sh', '-c', command.text];
}

/** What is wrong with how a program ended, to follow its name; undefined for status 0. */
export function programProblem(end: ProgramEnd, timeoutMillis: number): string | undefined {
  const { status, signal, problem, timedOut, lastLine } = end;
  if (problem !== undefined) return `cannot be run: ${problem}`;
  if (timedOut) return `was killed: it had not ended after ${timeoutMillis / 1000} s`;
  if (status === 0) return undefined;
  const how = status === undefined ? `was ended by ${signal ?? 'a signal'}` : `ended with status ${status}`;
  return lastLine === '' ? how : `${how}: ${lastLine.trim()}`;
}
