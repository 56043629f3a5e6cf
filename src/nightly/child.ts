// SPDX-License-Identifier: MIT
// A command of vmar as a child process: its document, or its error. A process of its own for each guest, so that a crash
// or a lack of memory of one harms no other, and so that what one leaks is gone with it. It costs some 0.2 seconds a guest.

import { EXIT } from '../base/errors.js';
import { ENDS_WITH_INPUT } from './ends-with-input.js';
import { type Environment, runProgram } from './program.js';

/** How to run vmar. */
export interface VmarProgram {
  /** Node.js, its own arguments, and the script. */
  readonly words: readonly string[];
  readonly env: Environment;
}

export interface ChildCall {
  readonly program: VmarProgram;
  /** The datastore's directory. */
  readonly datastore: string;
  readonly words: readonly string[];
  readonly timeoutMillis?: number;
  readonly signal: AbortSignal;
  readonly onLine: (line: string) => void;
}

export type ChildResult =
  | { readonly ok: true; readonly document: JsonObject }
  | {
      readonly ok: false;
      readonly outcome: 'failed' | 'busy' | 'interrupted';
      readonly code: string;
      readonly message: string;
      /** Of a command that found something wrong and says what. */
      readonly document: JsonObject | undefined;
      /** Whether it may be otherwise another time. */
      readonly isRetryable: boolean;
    };

export type JsonObject = Readonly<Record<string, unknown>>;

const MOST_DOCUMENT_BYTES = 256 << 20;

/** Never rejects. */
export async function runChild(call: ChildCall): Promise<ChildResult> {
  const { program, datastore, words, timeoutMillis, signal, onLine } = call;
  const end = await runProgram({
    words: [...program.words, '--datastore', datastore, '--json', ...words],
    env: { ...program.env, [ENDS_WITH_INPUT]: '1' },
    keepsInputOpen: true,
    ...{ signal, onLine, killsGroup: false, mostOutputBytes: MOST_DOCUMENT_BYTES },
    ...(timeoutMillis === undefined ? {} : { timeoutMillis }),
  });
  const document = parse(end.output);
  if (end.timedOut) {
    const message = `it had not ended after ${Math.round((timeoutMillis ?? 0) / 1000)} s, its time-out, and was told to`;
    return failed('timeout', message, document, false);
  }
  if (end.problem !== undefined) return failed('cannot-run', `vmar cannot be run: ${end.problem}`, undefined, false);
  if (end.status === EXIT.done && document !== undefined) return { ok: true, document };
  if (end.status === EXIT.interrupted || (end.status === undefined && signal.aborted)) {
    return { ...failed('interrupted', 'interrupted', document, false), outcome: 'interrupted' };
  }
  return described(end.status, end.signal, end.lastLine, document);
}

function described(
  status: number | undefined,
  signal: string | undefined,
  lastLine: string,
  document: JsonObject | undefined,
): ChildResult {
  if (status === undefined) return failed('killed', `vmar was ended by ${signal ?? 'a signal'}`, document, true);
  const error = document?.error;
  const isRetryable = status !== EXIT.usage && status !== EXIT.notFound;
  if (!isObject(error)) {
    const what = document === undefined ? 'and no document' : 'as its document tells';
    return failed(
      'failed',
      `vmar ended with status ${status}, ${what}${lastLine && `: ${lastLine}`}`,
      document,
      isRetryable,
    );
  }
  const result = failed(String(error.code), sentence(error), document, isRetryable);
  return status === EXIT.busy ? { ...result, outcome: 'busy' } : result;
}

function failed(code: string, message: string, document: JsonObject | undefined, isRetryable: boolean) {
  return { ok: false as const, outcome: 'failed' as const, code, message, document, isRetryable };
}

/** As the command itself would print it: on what, what, expected and found. */
function sentence({ object, message, expected, found }: JsonObject): string {
  const place = typeof object === 'string' ? `${object}: ` : '';
  const facts = [
    typeof expected === 'string' ? `expected ${expected}` : '',
    typeof found === 'string' ? `found ${found}` : '',
  ];
  const known = facts.filter((fact) => fact !== '').join(', ');
  return `${place}${String(message)}${known === '' ? '' : ` (${known})`}`;
}

function parse(text: string): JsonObject | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
