import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

/** One lab at a time: the tests count packets, and two labs would share the cores. */
const labs = {
  ...{ fileParallelism: false, testTimeout: 60_000, hookTimeout: 30_000 },
  globalSetup: 'test/support/global-setup.ts',
  setupFiles: 'test/support/requirements.ts',
};

// `isolate: false`: a process for each file takes a quarter of the time.
export default defineConfig({
  test: {
    pool: 'forks',
    tags: [{ name: 'unprivileged', description: 'needs neither root nor iproute2' }],
    projects: [
      {
        extends: true,
        // Unit tests are bounded in work and none of them looks at the clock: the limit only ends one that hangs.
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts'],
          maxWorkers: availableParallelism(),
          isolate: false,
          testTimeout: 600_000,
          hookTimeout: 600_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        // What a port does, by the kernel's own devices and in memory.
        test: {
          name: 'system',
          include: ['test/system/**/*.test.ts'],
          ...labs,
          isolate: false,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        // What it does when something breaks, is refused, or is changed behind its back: many whole lives of ports.
        test: {
          name: 'faults',
          include: ['test/faults/**/*.test.ts'],
          ...labs,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
