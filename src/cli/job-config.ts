// SPDX-License-Identifier: MIT
// The configuration that a command about jobs works with.

import { NotFoundError, UsageError } from '../base/errors.js';
import type { JobConfig, NightlyConfig } from '../nightly/config.js';
import { readConfig } from '../nightly/config-file.js';
import { nearest } from '../nightly/nearest.js';
import type { Context } from './context.js';

export interface ConfigFlags {
  readonly configFile?: string;
}

export const CONFIG_FILE = '/etc/vmar/vmar.yaml';

export function configPath({ configFile }: Pick<Context, 'configFile'>, flags: ConfigFlags): string {
  if (flags.configFile === '') {
    throw new UsageError('bad-config', 'the name of a file is missing', { object: '--config-file' });
  }
  return flags.configFile ?? configFile ?? CONFIG_FILE;
}

/** @throws ConfigError for a wrong one, FailedError if it cannot be read */
export async function openConfig(context: Context, flags: ConfigFlags): Promise<NightlyConfig> {
  return await readConfig(configPath(context, flags));
}

/** Each once, in the order that they were named in; all in the order of the file. @throws NotFoundError */
export function chooseJobs({ jobs, file }: NightlyConfig, names: readonly string[], isAll: boolean): JobConfig[] {
  if (isAll === names.length > 0) {
    throw new UsageError('no-job', isAll ? '--all goes with no names of jobs' : 'no job was named', {
      advice: 'Name jobs, or give --all; `vmar job list` prints what there is.',
    });
  }
  if (isAll) return [...jobs.values()];
  return [...new Set(names)].map((name) => {
    const job = jobs.get(name);
    if (job !== undefined) return job;
    const meant = nearest(name, jobs.keys());
    throw new NotFoundError('no-such-job', `the configuration has no such job`, {
      object: name,
      advice: meant === undefined ? `See \`vmar job list\` for the jobs of ${file}.` : `Did you mean ${meant}?`,
    });
  });
}
