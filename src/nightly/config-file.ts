// SPDX-License-Identifier: MIT
// Reads a configuration: YAML, then the schema of each part, then the links between them. All problems are found, not
// only the first; each with line and column, what was found and what was expected.

import { isUtf8 } from 'node:buffer';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import type * as z from 'zod';
import { FailedError, systemErrorCode, UsageError, VmarError } from '../base/errors.js';
import type { DatastoreConfig, GuestConfig, JobConfig, LogConfig, NightlyConfig, NotifyConfig } from './config.js';
import { jobKind, jobSchema } from './config-jobs.js';
import { checkLinks } from './config-links.js';
import {
  datastoreSchema,
  guestName,
  guestSchema,
  logSchema,
  notifySchema,
  partName,
  topSchema,
} from './config-schema.js';
import { knownKeys } from './config-values.js';
import { type ConfigPath, type ConfigProblem, ConfigYaml } from './config-yaml.js';
import { nearest } from './nearest.js';

/** Told of in full by `vmar job check`. */
export class ConfigError extends UsageError {
  readonly problems: readonly ConfigProblem[];

  constructor(file: string, problems: readonly ConfigProblem[]) {
    const [first] = problems;
    const more = problems.length > 1 ? `, and ${problems.length - 1} more` : '';
    super('bad-config', `${first === undefined ? 'it is wrong' : sentence(first)}${more}`, {
      object: first === undefined ? file : `${file}:${first.line}:${first.column}`,
      advice: 'See `vmar job check`, and docs/JOBS.md.',
    });
    this.problems = problems;
  }
}

/** "jobs.nightly.level: …", or the message alone. */
export function sentence({ place, message }: ConfigProblem): string {
  return place === '' ? message : `${place}: ${message}`;
}

const MOST_CONFIG_BYTES = 4 << 20;

/**
 * Reads and checks a configuration file, or what comes through a FIFO.
 * @throws ConfigError for a wrong one, FailedError if it cannot be read
 */
export async function readConfig(file: string): Promise<NightlyConfig> {
  return parseConfig(await readText(file), file);
}

/** Not on this thread: whoever waits for the writer of a FIFO can be interrupted. */
async function readText(file: string): Promise<string> {
  try {
    const stats = await stat(file);
    if (!stats.isFile() && !stats.isFIFO()) throw new FailedError('bad-config', 'this is not a file', { object: file });
    if (stats.size > MOST_CONFIG_BYTES) throw tooLarge(file, `${stats.size} bytes`);
    const parts: Buffer[] = [];
    let lengthBytes = 0;
    for await (const part of createReadStream(file)) {
      parts.push(part);
      lengthBytes += part.byteLength;
      if (lengthBytes > MOST_CONFIG_BYTES) throw tooLarge(file, 'more');
    }
    const bytes = Buffer.concat(parts);
    if (!isUtf8(bytes)) throw notUtf8(bytes, file);
    return bytes.toString('utf8');
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === undefined || error instanceof VmarError) throw error;
    const isMissing = code === 'ENOENT' || code === 'ENOTDIR';
    throw new FailedError(
      'config-unreadable',
      isMissing ? 'there is no such configuration' : `it cannot be read: ${code}`,
      {
        object: file,
        ...(isMissing ? { advice: 'Write it (docs/JOBS.md tells how), or name another with --config-file.' } : {}),
        cause: error,
      },
    );
  }
}

function tooLarge(file: string, found: string): FailedError {
  return new FailedError('bad-config', 'this is too large for a configuration', {
    object: file,
    expected: `at most ${MOST_CONFIG_BYTES} bytes`,
    found,
  });
}

/** At the first line of it that is not. */
function notUtf8(bytes: Buffer, file: string): ConfigError {
  let [line, start] = [1, 0];
  for (let end = bytes.indexOf(10); end >= 0 && isUtf8(bytes.subarray(start, end)); end = bytes.indexOf(10, start)) {
    line++;
    start = end + 1;
  }
  return new ConfigError(file, [{ line, column: 1, place: '', message: 'this line is not UTF-8' }]);
}

/** @throws ConfigError */
export function parseConfig(text: string, file: string): NightlyConfig {
  const { yaml, problems } = ConfigYaml.parse(text);
  if (problems.length > 0) throw new ConfigError(file, problems);
  const reading = new ConfigReading(yaml);
  const config = reading.config(file);
  if (reading.problems.length > 0) throw new ConfigError(file, reading.inOrder());
  return config;
}

const NO_NOTIFY: NotifyConfig = { when: 'never', timeoutMillis: 0 };

class ConfigReading {
  readonly problems: ConfigProblem[] = [];
  readonly #yaml: ConfigYaml;

  constructor(yaml: ConfigYaml) {
    this.#yaml = yaml;
  }

  /** As they stand in the file. */
  inOrder(): readonly ConfigProblem[] {
    return [...this.problems].sort((a, b) => a.line - b.line || a.column - b.column);
  }

  config(file: string): NightlyConfig {
    const top = this.#check(topSchema, this.#yaml.values(file), []);
    const datastores = this.#entries(top?.datastores, ['datastores'], partName, (name, value, path) => {
      const parsed = this.#check(datastoreSchema, value, path);
      return parsed === undefined ? [] : [{ name, ...parsed } satisfies DatastoreConfig];
    });
    const guests = this.#entries(top?.guests, ['guests'], guestName, (name, value, path) => {
      const parsed = this.#check(guestSchema, value, path);
      return parsed === undefined ? [] : [{ name, isPattern: name.includes('*'), ...parsed } satisfies GuestConfig];
    });
    const notify = top?.notify === undefined ? NO_NOTIFY : this.#check(notifySchema, top.notify, ['notify']);
    const jobs = this.#entries(top?.jobs, ['jobs'], partName, (name, value, path) =>
      this.#jobs(name, value, path, notify),
    );
    const log: LogConfig | undefined = top?.log === undefined ? undefined : this.#check(logSchema, top.log, ['log']);
    const config = { file, datastores, guests, jobs, ...(log === undefined ? {} : { log }) };
    // Where a part is wrong, links to it would seem so too.
    if (this.problems.length === 0) {
      for (const { path, message } of checkLinks(config)) this.problems.push(this.#yaml.problemAt(path, message));
    }
    return config;
  }

  #entries<Part extends { readonly name: string }>(
    given: Readonly<Record<string, unknown>> | undefined,
    path: ConfigPath,
    nameSchema: z.ZodType<string>,
    read: (name: string, value: unknown, path: ConfigPath) => readonly Part[],
  ): ReadonlyMap<string, Part> {
    const parts = new Map<string, Part>();
    for (const [name, value] of Object.entries(given ?? {})) {
      const named = nameSchema.safeParse(name);
      if (!named.success) {
        const expected = named.error.issues[0]?.message ?? '';
        this.problems.push(this.#yaml.problemOfKey(path, name, `expected ${expected}`));
        continue;
      }
      for (const part of read(named.data, value, [...path, name])) {
        if (parts.has(part.name)) {
          this.problems.push(this.#yaml.problemOfKey(path, name, `there is a ${part.name} already`));
        }
        parts.set(part.name, part);
      }
    }
    return parts;
  }

  #jobs(name: string, value: unknown, path: ConfigPath, notify: NotifyConfig = NO_NOTIFY): readonly JobConfig[] {
    const kind = this.#check(jobKind, kindOf(value), [...path, 'kind']);
    if (kind === undefined) return [];
    return this.#check(jobSchema(kind, { name, notify }), value, path) ?? [];
  }

  #check<Schema extends z.ZodType>(schema: Schema, value: unknown, path: ConfigPath): z.output<Schema> | undefined {
    const parsed = schema.safeParse(value);
    if (parsed.success) return parsed.data;
    for (const issue of parsed.error.issues) {
      for (const problem of this.#problemsOf(issue, path)) this.problems.push(problem);
    }
    return undefined;
  }

  #problemsOf(issue: z.core.$ZodIssue, base: ConfigPath): readonly ConfigProblem[] {
    const path = [...base, ...issue.path.filter((step) => typeof step !== 'symbol')];
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map((key) => this.#yaml.problemOfKey(path, key, unknownKey(key, knownKeys(issue.message))));
    }
    const found = this.#yaml.found(path);
    const message =
      found === 'nothing' ? `is missing: expected ${issue.message}` : `expected ${issue.message}, found ${found}`;
    return [this.#yaml.problemAt(path, message)];
  }
}

function unknownKey(key: string, known: readonly string[]): string {
  const meant = nearest(key, known);
  return `unknown key; ${meant === undefined ? `known: ${known.join(', ')}` : `did you mean ${meant}?`}`;
}

/** Without a kind it is a backup. */
function kindOf(job: unknown): unknown {
  if (typeof job !== 'object' || job === null || !('kind' in job)) return 'backup';
  return job.kind;
}
