import { defineConfig } from 'vitest/config';
import { workers } from './test/support/workers.ts';

export default defineConfig({
  // type-graphql and the tests must see the same copy of graphql.
  resolve: { alias: [{ find: /^graphql$/, replacement: 'graphql/index.js' }] },
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    pool: 'forks',
    // Files of one worker share the modules they have loaded: loading them again for each was a tenth of the time.
    isolate: false,
    maxWorkers: workers,
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // Many tests wait for real processes; a hang must still end.
    teardownTimeout: 30_000,
    coverage: {
      provider: 'v8',
      include: ['src/**/*.ts'],
      reporter: ['text-summary', ['text', { file: 'coverage.txt' }], 'html'],
    },
  },
});
