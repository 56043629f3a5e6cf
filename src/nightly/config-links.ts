// SPDX-License-Identifier: MIT
// What one part of a configuration says of another.

import type { GuestConfig, JobConfig, NightlyConfig } from './config.js';
import type { ConfigPath } from './config-yaml.js';
import { choosesGuest, matchPattern } from './guest-patterns.js';
import { nearest } from './nearest.js';

export interface LinkProblem {
  readonly path: ConfigPath;
  readonly message: string;
}

type Parts = Pick<NightlyConfig, 'datastores' | 'guests' | 'jobs'>;

export function checkLinks({ datastores, guests, jobs }: Parts): readonly LinkProblem[] {
  return [
    ...[...guests.values()].flatMap(patternProblems),
    ...[...jobs.values()].flatMap((job) => [
      ...datastoreProblems(job, [...datastores.keys()]),
      ...guestProblems(job, [...guests.values()]),
    ]),
  ];
}

/** A guest found by its socket gets its name from it. */
function patternProblems({ name, isPattern, source }: GuestConfig): readonly LinkProblem[] {
  const path = ['guests', name];
  const stars = source.kind === 'qmp' ? source.socket.split('*').length - 1 : 0;
  if (isPattern && stars !== 1) {
    return [{ path, message: 'a name with "*" needs a qmp path with one "*", which finds the guests' }];
  }
  if (!isPattern && stars > 0) {
    return [{ path: [...path, 'qmp'], message: 'a path with "*" needs one in the name of the guest too' }];
  }
  return [];
}

function datastoreProblems(job: JobConfig, known: readonly string[]): readonly LinkProblem[] {
  const named = job.kind === 'copy' ? (['from', 'to'] as const) : (['datastore'] as const);
  const problems = named.flatMap((key) => {
    const name = job.kind === 'copy' ? job[key as 'from' | 'to'] : job.datastore;
    if (known.includes(name)) return [];
    return [{ path: ['jobs', job.name, key], message: unknown('datastore', name, known) }];
  });
  if (job.kind === 'copy' && job.from === job.to) {
    problems.push({ path: ['jobs', job.name, 'to'], message: 'a copy goes to another datastore' });
  }
  return problems;
}

/** Only backups are of guests of the file; the others are of what lies in a datastore. */
function guestProblems(job: JobConfig, guests: readonly GuestConfig[]): readonly LinkProblem[] {
  if (job.kind !== 'backup') return [];
  const path = ['jobs', job.name];
  if (guests.length === 0) return [{ path: [...path, 'guests'], message: 'there are no guests in the file' }];
  const isKnown = (pattern: string): boolean =>
    guests.some(({ name, isPattern }) => choosesGuest(pattern, name) || (isPattern && mayBe(name, pattern)));
  const problems = job.guests.include.flatMap((name, index) =>
    isKnown(name) ? [] : [{ path: [...path, 'guests', index], message: unknown('guest', name, namesOf(guests)) }],
  );
  const isLeft = guests.some(({ name, isPattern }) => {
    return isPattern || !job.guests.exclude.some((pattern) => choosesGuest(pattern, name));
  });
  if (problems.length === 0 && !isLeft) problems.push({ path: [...path, 'exclude'], message: 'no guest is left' });
  return problems;
}

/** Whether guests that are found may have a name, or one that another pattern fits. */
function mayBe(found: string, pattern: string): boolean {
  return pattern.includes('*') || matchPattern(found, pattern) !== undefined;
}

function namesOf(guests: readonly GuestConfig[]): readonly string[] {
  return guests.map(({ name }) => name);
}

function unknown(what: string, name: string, known: readonly string[]): string {
  const meant = nearest(name, known);
  return `there is no ${what} ${JSON.stringify(name)}${meant === undefined ? '' : `; did you mean ${meant}?`}`;
}
