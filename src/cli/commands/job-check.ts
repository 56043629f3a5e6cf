// SPDX-License-Identifier: MIT
// vmar job check

import { EXIT, type ExitStatus } from '../../base/errors.js';
import type { NightlyConfig } from '../../nightly/config.js';
import { ConfigError, readConfig, sentence } from '../../nightly/config-file.js';
import type { ConfigProblem } from '../../nightly/config-yaml.js';
import type { Context } from '../context.js';
import { counted } from '../human.js';
import { type HostProblem, hostProblems } from '../job-checks.js';
import { type ConfigFlags, configPath } from '../job-config.js';
import { printable } from '../printable.js';

/** What is wrong in the file is a usage error; what the file names and is not there now is a failure. */
export async function run(context: Context, _args: undefined, flags: ConfigFlags): Promise<ExitStatus> {
  const file = configPath(context, flags);
  let config: NightlyConfig;
  try {
    config = await readConfig(file);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    tellConfig(context, file, error.problems);
    return EXIT.usage;
  }
  const problems = await hostProblems(context, config);
  tellHost(context, config, problems);
  return problems.length === 0 ? EXIT.done : EXIT.failed;
}

function tellConfig({ output }: Context, file: string, problems: readonly ConfigProblem[]): void {
  output.result(
    () => ({ ok: false, file, problems, host: [] }),
    () =>
      problems
        .map((problem) => printable(`${file}:${problem.line}:${problem.column}: ${sentence(problem)}`))
        .join('\n'),
  );
}

function tellHost({ output }: Context, config: NightlyConfig, problems: readonly HostProblem[]): void {
  const { file, datastores, guests, jobs } = config;
  output.result(
    () => ({ ok: problems.length === 0, file, problems: [], host: problems }),
    () => {
      const parts = [counted(datastores.size, 'datastore'), counted(guests.size, 'guest'), counted(jobs.size, 'job')];
      const head = `${file}: well-formed: ${parts.join(', ')}`;
      return [head, ...problems.map(({ place, message }) => printable(`${place}: ${message}`))].join('\n');
    },
  );
}
