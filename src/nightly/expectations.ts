// SPDX-License-Identifier: MIT
// Which backups a configuration promises: by which jobs each guest of a datastore is backed up, and how often.

import { realpathSync } from 'node:fs';
import { type GuestRef, parseGuest } from '../store/backup-id.js';
import type { BackupJobConfig, NightlyConfig } from './config.js';
import { choosesGuest, matchPattern } from './guest-patterns.js';
import { guestNamesNow } from './guests.js';

export class Expectations {
  static readonly NONE = new Expectations([], [], []);
  readonly #jobs: readonly BackupJobConfig[];
  /** Names and patterns of the configuration's guests. */
  readonly #known: readonly string[];
  readonly #there: readonly string[];

  private constructor(jobs: readonly BackupJobConfig[], known: readonly string[], there: readonly string[]) {
    this.#jobs = jobs;
    this.#known = known;
    this.#there = there;
  }

  /** What the configuration promises for the datastore in that directory. */
  static of(config: NightlyConfig, root: string): Expectations {
    const here = placeOf(root);
    const names = new Set<string>();
    for (const { name, path } of config.datastores.values()) if (placeOf(path) === here) names.add(name);
    const jobs = [...config.jobs.values()].filter((job): job is BackupJobConfig => job.kind === 'backup');
    return new Expectations(
      jobs.filter(({ datastore }) => names.has(datastore)),
      [...config.guests.keys()],
      guestNamesNow(config.guests.values()),
    );
  }

  /** The guests that jobs are for, whether they have backups or not: those of the file, and those that patterns find now. */
  get guests(): GuestRef[] {
    return this.#there.flatMap((name) => {
      const guest = parseGuest(name);
      return guest !== undefined && this.jobsOf(guest).length > 0 ? [guest] : [];
    });
  }

  /** The backup jobs that a guest is in, in the order of the configuration. */
  jobsOf(guest: GuestRef): BackupJobConfig[] {
    const names = namesOf(guest);
    const known = names.filter((name) => this.#known.some((pattern) => matchPattern(pattern, name) !== undefined));
    return this.#jobs.filter(({ guests: { include, exclude } }) => {
      const isNamed = (patterns: readonly string[]): boolean =>
        known.some((name) => patterns.some((pattern) => choosesGuest(pattern, name)));
      return isNamed(include) && !isNamed(exclude);
    });
  }
}

/** As a configuration may name it. */
function namesOf({ namespace, guestId }: GuestRef): string[] {
  return namespace === '' ? [guestId, `vm/${guestId}`] : [`${namespace}/vm/${guestId}`];
}

/** A directory that is not there is none of ours, whatever it is called. */
function placeOf(directory: string): string | undefined {
  try {
    return realpathSync(directory);
  } catch {
    return undefined;
  }
}
