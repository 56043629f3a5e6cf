// SPDX-License-Identifier: MIT
import { availableParallelism } from 'node:os';
import { configDefaults, defineConfig } from 'vitest/config';

// Node.js reads these certificates first of all, in each of some thousand programs that tests start.
delete process.env.NODE_EXTRA_CA_CERTS;

// Tests import the built product through the package's own `#vmar/*` map, so that worker threads, generated modules
// and paths are the ones that users run.
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // A real guest takes minutes, and has a command of its own: npm run test:guest.
    exclude: [...configDefaults.exclude, 'test/guest/**'],
    // Only what hangs takes so long, on a machine with much else to do too.
    testTimeout: 240_000,
    hookTimeout: 240_000,
    pool: 'forks',
    // Half of them wait for programs: on two cores one at a time would take twice as long.
    maxWorkers: Math.max(2, availableParallelism() - 1),
  },
});
