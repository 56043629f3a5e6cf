// SPDX-License-Identifier: MIT
import { defineConfig } from 'vitest/config';

// The tests with a real guest take minutes: npm run test:guest. One test rests on the one before it.
export default defineConfig({
  test: {
    include: ['test/guest/**/*.test.ts'],
    testTimeout: 400_000,
    hookTimeout: 400_000,
    pool: 'forks',
    maxWorkers: 1,
    bail: 1,
  },
});
